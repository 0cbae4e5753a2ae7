"""Never depend on yourself: keep a process that serves swap out of reclaim's way.

In this order, before it serves and before it has threads:

    io_flusher      its allocations never recurse into I/O, that is, into itself
    oom_score_adj   -1000: the OOM killer takes somebody else
    memory_locked   what is mapped now stays (MCL_CURRENT); what is mapped later is locked
                    as it is touched (MCL_FUTURE | MCL_ONFAULT: without ONFAULT the arena
                    would take its whole size at once)

Each step is read back.  A step that failed is reported, not hidden: as an ordinary
user all of them fail, and only a file is served.

Before them it gives up core dumps.  A dump of a process that maps the header, or works with the
key in it, would have the key on a disk.  Three things, since each has a gap:

    RLIMIT_CORE 1       no file is that small; and a program behind a ``|`` of core_pattern, which
                        a limit of 0 lets run, is not started for a limit of 1
    coredump_filter 0   no memory in what is dumped nevertheless, to a socket (Linux 6.16)
    PR_SET_DUMPABLE 0   neither core nor debugger, but for a root with CAP_SYS_PTRACE

With the last alone, a root without that capability (a container) could not take the descriptors of
a worker over (pidfd_getfd).  So there a worker keeps to the first two.  An ordinary user's
processes do, too: they would become root's in ``/proc``, and hold the pages of that user alone.
Rejected: MADV_DONTDUMP of the header, since the heap has keys derived from it.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from typing import NamedTuple

from fuseswap.linux import syscalls

OOM_SCORE_ADJ = -1000
_CAP_SYS_PTRACE = 19


class Protection(NamedTuple):
    """What holds for a process, as read back from the kernel; but for ``seccomp``, which it says.

    A tuple, not a dataclass: `dataclasses` costs the supervisor 2 MB of locked memory.
    """

    memory_locked: bool
    io_flusher: bool
    oom_score_adj: int
    seccomp: bool = False  # by ``confine.py``, of a worker; a container may have its own filter

    @property
    def complete(self) -> bool:
        """Whether swap can be served safely."""
        return self.memory_locked and self.io_flusher and self.oom_score_adj == OOM_SCORE_ADJ


def protect(*, populate: bool, adoptable: bool = False) -> Protection:
    """Take every step that is permitted and read all of them back.

    ``adoptable``: another process takes its descriptors over, if it must (the worker).
    ``populate`` makes all that is mapped resident first (the worker: 33 MB instead of 27).
    Without it only touched pages are locked (the supervisor, which is idle).
    """
    dump_no_core(adoptable=adoptable)
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


def dump_no_core(*, adoptable: bool = False) -> None:
    """Never a core dump of this process, nor of its children; may fail where there is none.

    ``adoptable`` as for `protect`.
    """
    with contextlib.suppress(OSError, ValueError):  # a hard limit of 0 stays
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    with contextlib.suppress(OSError), open("/proc/self/coredump_filter", "w") as file:
        file.write("0")
    if os.geteuid() == 0 and (not adoptable or _may_trace()):
        with contextlib.suppress(OSError):
            syscalls.set_not_dumpable()


def _may_trace() -> bool:
    """Whether this process has CAP_SYS_PTRACE, and so those have that a container starts."""
    with open("/proc/self/status") as file:
        effective = next((line for line in file if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_PTRACE & 1)


def read_protection() -> Protection:
    """What the kernel says of this process."""
    return Protection(
        memory_locked=read_status_kib("/proc/self", "VmLck") > 0,
        io_flusher=_io_flusher(),
        oom_score_adj=_read_oom_score_adj(),
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


def _read_oom_score_adj() -> int:
    with open("/proc/self/oom_score_adj") as file:
        return int(file.read())


def _set_oom_score_adj() -> None:
    _write_oom_score_adj(OOM_SCORE_ADJ)


def _write_oom_score_adj(score: int) -> None:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(score))


@contextlib.contextmanager
def spared() -> Iterator[None]:
    """The OOM killer takes others meanwhile, where that is permitted; for a command.

    What it starts is spared, too, until it says otherwise.  ``swapoff`` is not: the kernel takes
    the process that is in it first.
    """
    before = _read_oom_score_adj()
    with contextlib.suppress(OSError):
        _set_oom_score_adj()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _write_oom_score_adj(before)


def lock_memory(*, populate: bool) -> None:
    """Lock what is mapped now and what comes later; see `protect`.  Raises `OSError`."""
    if os.geteuid() != 0:
        return  # RLIMIT_MEMLOCK would make later allocations fail instead
    if populate:
        syscalls.mlockall(syscalls.MCL_CURRENT)
        syscalls.mlockall(syscalls.MCL_FUTURE | syscalls.MCL_ONFAULT)
    else:
        syscalls.mlockall(syscalls.MCL_CURRENT | syscalls.MCL_FUTURE | syscalls.MCL_ONFAULT)
