"""Other users of the machine get at nothing of root's device, and can hold none of its locks."""

from __future__ import annotations

import stat
import sys

import pytest

from fuseswap.daemon.runtime_dir import Runtime, runtime_root
from tests.support.mounted_devices import AS_NOBODY, TestDevice, call, run

_TRY = """
import os, sys
calls = {
    "list": os.listdir, "look": os.stat,
    "open": lambda path: os.open(path, os.O_RDONLY),
}
try:
    calls[sys.argv[1]](sys.argv[2])
except PermissionError:
    sys.exit(7)
"""
REFUSED = 7
TRIES = [
    ("list", ""),
    ("list", "stats"),
    ("look", "metrics"),
    ("look", "swapfile"),
    ("open", "metrics"),
    ("open", "stats/stored_pages"),
    ("open", "pages/0"),
    ("open", "swapfile"),
]


@pytest.mark.parametrize(("what", "name"), TRIES)
def test_the_file_system_is_closed_to_others(device: TestDevice, what: str, name: str) -> None:
    path = str(device.mountpoint / name)
    command = [sys.executable, "-c", _TRY, what, path]
    assert run(command).returncode == 0, "root may"
    assert run([*AS_NOBODY, *command]).returncode == REFUSED


def test_df_of_others_shows_nothing(device: TestDevice) -> None:
    """The kernel answers it by itself."""
    command = ["stat", "--file-system", "--format=%b", str(device.mountpoint)]
    assert int(run(command).stdout) > 0
    assert run([*AS_NOBODY, *command]).stdout.strip() == "0"


def test_no_other_user_can_hold_a_lock(device: TestDevice) -> None:
    lock = runtime_root() / f".{device.name}.lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600


def test_a_lock_of_an_older_version_is_closed_when_it_is_used(device: TestDevice) -> None:
    lock = runtime_root() / f".{device.name}.lock"
    lock.chmod(0o644)
    with Runtime(device.name).lock():
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600


def test_a_lock_is_no_link(device: TestDevice) -> None:
    lock = runtime_root() / ".elsewhere.lock"
    lock.symlink_to("/dev/null")
    try:
        done = call("restart", "elsewhere")
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
    finally:
        lock.unlink()
