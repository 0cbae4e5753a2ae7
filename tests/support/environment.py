"""What tests of real devices need around them, once for each process that runs some."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fuseswap.daemon.runtime_dir import runtime_root
from fuseswap.linux import syscalls
from tests.support.mounted_devices import SOURCE

_ROOT = "FUSESWAP_RUNTIME_DIR"


@contextmanager
def real_devices() -> Iterator[None]:
    """Root, children that import this very source, a runtime directory of the tests, locked memory.

    Cold pages of this process go to the devices it tests (DAMON), and while one of them does not
    answer, the watchdog that would end that has to run.
    """
    assert os.geteuid() == 0, "mounts and swap need root: sudo ./scripts/test"
    os.environ["PYTHONPATH"] = str(SOURCE)
    before = os.environ.get(_ROOT)
    os.environ[_ROOT] = before or "/run/fuseswap-test"
    with suppress(OSError):  # as protect.py: not permitted in some containers
        syscalls.mlockall(syscalls.MCL_CURRENT | syscalls.MCL_FUTURE | syscalls.MCL_ONFAULT)
    yield
    _remove_locks()
    if before is None:
        del os.environ[_ROOT]
    else:
        os.environ[_ROOT] = before


def _remove_locks() -> None:
    """What commands on `new_name` devices leave by design: an empty lock file each."""
    for path in runtime_root().glob(f".t{os.getpid()}-*.lock"):
        path.unlink()
    with suppress(OSError):  # of others, who are not done
        runtime_root().rmdir()
