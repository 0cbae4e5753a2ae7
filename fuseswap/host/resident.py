"""Memory of a process: its own, not what it shares with the store.

Counters the kernel keeps, about 30 us a process.  The arena and the tables are RssShmem and so
not among it.  smaps would be exact, and would walk every page of the arena.
"""

from __future__ import annotations

from typing import NamedTuple


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
