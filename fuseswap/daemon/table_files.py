"""The shared tables of a device that is up, opened by a command that looks at them.

The worker's command line says which of its descriptors is which region; the kernel opens the same
file through /proc.  Needs root, as all that shows whose a page is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from fuseswap.daemon import strays
from fuseswap.daemon.processes import workers_of
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.linux.protect import dump_no_core
from fuseswap.store.table_view import TableView

_REGIONS = ("header", "slots", "segments")


@contextmanager
def table_view(runtime: Runtime) -> Iterator[TableView]:
    """The tables of ``runtime``, to be read.

    A process that has opened them leaves no core dump: the key is in one of them.

    Raises `HostError` where no worker has them, and `StateMismatch`.
    """
    dump_no_core()
    with ExitStack() as opened:
        fds = _open(runtime, opened)
        if fds is None:
            raise HostError(f"no worker serves {runtime.name}; see: fuseswap status {runtime.name}")
        yield TableView(*fds)


def _open(runtime: Runtime, opened: ExitStack) -> list[int] | None:
    for pid in workers_of(runtime):
        numbers = strays.descriptors_of(pid)
        fds = []
        try:
            for name in _REGIONS:
                fd = os.open(f"/proc/{pid}/fd/{numbers[name]}", os.O_RDONLY | os.O_CLOEXEC)
                opened.callback(os.close, fd)
                fds.append(fd)
        except (KeyError, FileNotFoundError, ProcessLookupError):
            continue  # it has just ended: its standby has the same
        return fds
    return None
