"""The ring of a trace: events from the thread that serves to a process that writes them down.

Shared memory, made and populated by that process (``laboratory/recorder.py``) before a worker maps
it.  One worker at a time writes at ``head``, one recorder reads at ``tail``, and neither waits.
Where the ring is full an event is counted as dropped.

    header, 4 KiB      u64 each: magic, capacity, salt, head, tail, dropped, stopped, salt's end
    events             24 bytes each, `CAPACITY` a power of two

    +0  u32   when: CLOCK_MONOTONIC in units of 1024 ns, its low 32 bits (they turn over in 73 min)
    +4  u32   kind in bits 30 and 31, page in the others
    +8  u64   store: salted hash of the 4096 bytes     load: place, see `tracer.py`
              discard: how many pages                  note: CLOCK_MONOTONIC in ns, whole
    +16 u64   store and load: the slot word            discard: 0        note: which

An event is there once ``head`` is beyond it.  Other processors may see the two in another order.
So the recorder leaves what came within its last pause.  Slot words have no contents but those of
a fill, which the recorder leaves out.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from fuseswap.errors import HostError
from fuseswap.store.region import Region

MAGIC: Final = 0x31474E4952575346  # "FSWRING1"
HEADER_BYTES: Final = 4096
EVENT_BYTES: Final = 24
EVENT: Final = struct.Struct("<IIQQ")

KIND_SHIFT: Final = 30
LOAD: Final = 0
STORE: Final = 1
DISCARD: Final = 2
NOTE: Final = 3
PAGE_MASK: Final = (1 << KIND_SHIFT) - 1
MAX_PAGES: Final = 1 << KIND_SHIFT  # 4 TiB

TICK: Final = 0  # once a second
BEGIN: Final = 1  # a worker begins to write, or goes on where another one stopped

TIME_SHIFT: Final = 10
TIME_MASK: Final = 0xFFFFFFFF

_MAGIC_AT, _CAPACITY_AT, _SALT_AT, _HEAD_AT, _TAIL_AT, _DROPPED_AT, _STOPPED_AT = range(7)


def ring_bytes(capacity: int) -> int:
    """Of a file for a ring of ``capacity`` events, a power of two."""
    return HEADER_BYTES + capacity * EVENT_BYTES


class TraceRing:
    """A ring in a mapped file.  Raises `HostError` for what is none."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.words = region.buffer[:HEADER_BYTES].cast("Q")
        capacity = self.words[_CAPACITY_AT]
        fits = region.size_bytes >= HEADER_BYTES and ring_bytes(capacity) == region.size_bytes
        if self.words[_MAGIC_AT] != MAGIC or not fits or capacity & capacity - 1 or not capacity:
            self.words.release()
            raise HostError("a file that is no ring of a trace")
        self.capacity = capacity
        self.events = region.buffer[HEADER_BYTES:]
        self.salt = self.words[_SALT_AT]

    @classmethod
    def create(cls, region: Region, capacity: int) -> TraceRing:
        """In a fresh file of `ring_bytes`; all of its memory is there then."""
        region.populate(0, region.size_bytes)
        words = region.buffer[:HEADER_BYTES].cast("Q")
        words[_CAPACITY_AT] = capacity
        words[_SALT_AT] = int.from_bytes(os.urandom(8), "little")
        words[_MAGIC_AT] = MAGIC
        words.release()
        return cls(region)

    @property
    def head(self) -> int:
        """How many events were written; only the worker sets it."""
        return self.words[_HEAD_AT]

    @head.setter
    def head(self, count: int) -> None:
        self.words[_HEAD_AT] = count

    @property
    def tail(self) -> int:
        """How many events were read; only the recorder sets it."""
        return self.words[_TAIL_AT]

    @tail.setter
    def tail(self, count: int) -> None:
        self.words[_TAIL_AT] = count

    @property
    def dropped(self) -> int:
        """How many events found it full."""
        return self.words[_DROPPED_AT]

    @dropped.setter
    def dropped(self, count: int) -> None:
        self.words[_DROPPED_AT] = count

    @property
    def is_stopped(self) -> bool:
        """Whether the worker has written its last event."""
        return self.words[_STOPPED_AT] != 0

    def stop(self) -> None:
        """No event follows."""
        self.words[_STOPPED_AT] = 1

    def read(self, first: int, count: int) -> bytes:
        """The bytes of ``count`` events from number ``first``; the caller knows they are there."""
        at = first & self.capacity - 1
        until = min(at + count, self.capacity)
        found = bytes(self.events[at * EVENT_BYTES : until * EVENT_BYTES])
        return found + bytes(self.events[: (at + count - until) * EVENT_BYTES])

    def close(self) -> None:
        """Release its views and the region."""
        self.words.release()
        self.events.release()
        self.region.close()
