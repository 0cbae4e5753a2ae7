"""What the kernel counts of a process: its own memory, its processor time, and when it began.

About 30 us a process.  Memory is without what it shares with the store: the arena and the tables
are RssShmem.  smaps would be exact, and would walk every page of the arena.
"""

from __future__ import annotations

import os
from typing import NamedTuple

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class OwnMemory(NamedTuple):
    """In bytes: heap and stacks (RssAnon), and program and libraries (RssFile).

    Worker, standby and supervisor run the same program and share the latter.
    """

    anonymous: int
    libraries: int


def own_memory(pid: int | str) -> OwnMemory:
    """Of process ``pid``; zeros where it is gone, or before Linux 4.5."""
    found = {"RssAnon": 0, "RssFile": 0}
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if name in found:
                    found[name] = int(rest.split()[0]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return OwnMemory(0, 0)
    return OwnMemory(found["RssAnon"], found["RssFile"])


def own_bytes(pid: int) -> int:
    """All of it, as if nothing were shared."""
    return sum(own_memory(pid))


def anonymous_bytes() -> int:
    """Heap and stacks of this process."""
    return own_memory("self").anonymous


def start_ticks(pid: int) -> int:
    """When process ``pid`` began, in ticks since the boot; 0: it has ended.

    Numbers of processes are used again; number and start together are not.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def used_seconds(pid: int) -> float | None:
    """utime and stime of all threads of process ``pid`` (0.01 s exact), None where it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()  # the name may hold anything
    except (FileNotFoundError, ProcessLookupError):
        return None
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / _TICKS_PER_SECOND


def command_of(pid: int) -> str:
    """The name of process ``pid``, as ps has it in brackets; "" where it is gone."""
    try:
        with open(f"/proc/{pid}/comm", errors="surrogateescape") as file:
            return file.read().removesuffix("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def cgroup_of(pid: int) -> str:
    """The path of its memory cgroup (version 1), or of its only one (2); "" where it is gone."""
    unified = ""
    try:
        with open(f"/proc/{pid}/cgroup", errors="surrogateescape") as file:
            for line in file:
                _, controllers, path = line.removesuffix("\n").split(":", 2)
                if "memory" in controllers.split(","):
                    return path
                if not controllers:
                    unified = path
    except (FileNotFoundError, ProcessLookupError):
        pass
    return unified


def swap_bytes(pid: int) -> int:
    """What process ``pid`` has in swap, without shared memory; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("VmSwap:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0  # also for a thread of the kernel
