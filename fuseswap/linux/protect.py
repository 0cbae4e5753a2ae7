"""Never depend on yourself: keep a process that serves swap out of reclaim's way.

In this order, before it serves and before it has threads:

    io_flusher      its allocations never recurse into I/O, that is, into itself
    oom_score_adj   -1000: the OOM killer takes somebody else
    memory_locked   what is mapped now stays (MCL_CURRENT); what is mapped later is locked
                    as it is touched (MCL_FUTURE | MCL_ONFAULT: without ONFAULT the arena
                    would take its whole size at once)

Each step is read back.  A step that failed is reported, not hidden: as an ordinary
user all of them fail, and only a file is served.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from fuseswap.linux import syscalls

OOM_SCORE_ADJ = -1000


class Protection(NamedTuple):
    """What holds for a process, as read back from the kernel.

    A tuple, not a dataclass: `dataclasses` costs the supervisor 2 MB of locked memory.
    """

    memory_locked: bool
    io_flusher: bool
    oom_score_adj: int

    @property
    def complete(self) -> bool:
        """Whether swap can be served safely."""
        return self.memory_locked and self.io_flusher and self.oom_score_adj == OOM_SCORE_ADJ


def protect(*, populate: bool) -> Protection:
    """Take every step that is permitted and read all of them back.

    ``populate`` makes all that is mapped resident first (the worker: 33 MB instead of 27).
    Without it only touched pages are locked (the supervisor, which is idle).
    """
    for step in (
        syscalls.set_io_flusher,
        _set_oom_score_adj,
        lambda: lock_memory(populate=populate),
    ):
        try:
            step()
        except OSError:
            continue  # read back below, and reported
    return read_protection()


def read_protection() -> Protection:
    """What the kernel says of this process."""
    with open("/proc/self/oom_score_adj") as file:
        oom_score_adj = int(file.read())
    return Protection(
        memory_locked=read_status_kib("/proc/self", "VmLck") > 0,
        io_flusher=_io_flusher(),
        oom_score_adj=oom_score_adj,
    )


def read_status_kib(proc: str, field: str) -> int:
    """A field of ``/proc/PID/status`` in KiB, 0 where it is missing."""
    with open(f"{proc}/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0


def _io_flusher() -> bool:
    try:
        return syscalls.get_io_flusher()
    except OSError:
        return False


def _set_oom_score_adj() -> None:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE_ADJ))


def lock_memory(*, populate: bool) -> None:
    """Lock what is mapped now and what comes later; see `protect`.  Raises `OSError`."""
    if os.geteuid() != 0:
        return  # RLIMIT_MEMLOCK would make later allocations fail instead
    if populate:
        syscalls.mlockall(syscalls.MCL_CURRENT)
        syscalls.mlockall(syscalls.MCL_FUTURE | syscalls.MCL_ONFAULT)
    else:
        syscalls.mlockall(syscalls.MCL_CURRENT | syscalls.MCL_FUTURE | syscalls.MCL_ONFAULT)
