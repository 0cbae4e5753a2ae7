"""Which refusals of the compressed cache are worth waiting for, and how that is done.

A full pool in which room can be made is waited for until there is some (``room.py``).  A reserve
of memory that is used up is waited for until the feeder has made more, 1 s at most.
"""

from __future__ import annotations

from collections.abc import Callable

from fuseswap.errors import Deferred, NoMemory, PoolFull, Retry, StoreRefused
from fuseswap.reclaim.memory_watch import MemoryWatch
from fuseswap.reclaim.room import Room
from fuseswap.reclaim.room_maker import RoomMaker
from fuseswap.units import PageNumber

MEMORY_PATIENCE_S = 1.0  # stores wait so long for memory, in line: reclaim waits for them


class NoRoom(Deferred):
    """The pool is full but room is being made: try again then."""

    def __init__(self, room: Room, page: PageNumber) -> None:
        super().__init__(f"no room for page {page} yet")
        self._room = room

    def begin(self, answer: Callable[[Retry], None]) -> None:
        """See `Deferred`."""
        self._room.begin_wait(answer)


class MemoryOrdered(Deferred):
    """The system's memory is short: more was ordered, try again when it is there."""

    patience_s = MEMORY_PATIENCE_S

    def __init__(self, memory: MemoryWatch, room: Room, refusal: str) -> None:
        super().__init__(refusal)
        self._memory = memory
        self._room = room

    def begin(self, answer: Callable[[Retry], None]) -> None:
        """See `Deferred`; segments that leave make memory free as well."""
        self._room.want()
        self._memory.begin_wait(answer)


class CachePatience:
    """A `Patience` for the compressed cache."""

    def __init__(self, maker: RoomMaker, room: Room, memory: MemoryWatch) -> None:
        self._maker = maker
        self._room = room
        self._memory = memory

    def __call__(self, page: PageNumber, refusal: StoreRefused) -> Deferred | None:
        """How to wait where ``page`` was refused; None: nothing will have changed."""
        if isinstance(refusal, NoMemory):
            return MemoryOrdered(self._memory, self._room, str(refusal))
        if isinstance(refusal, PoolFull) and self._maker.expects_room():
            return NoRoom(self._room, page)
        return None
