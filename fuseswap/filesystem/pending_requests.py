"""Reads and writes that can't be answered at once, on their way through ``pending_io.py``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from fuseswap.tiers.tier_reader import TierLoad
from fuseswap.units import PAGE_SHIFT, PAGE_SIZE, PageNumber

ReadDone = Callable[["bytes | Exception"], None]
WriteDone = Callable[["Exception | None"], None]


class Read:
    """One read on its way: the pages found so far, and the misses that wait for their turn."""

    __slots__ = (
        "asking",
        "done",
        "error",
        "first",
        "in_flight",
        "left",
        "pieces",
        "size",
        "start",
        "waiting",
    )

    def __init__(self, offset: int, size: int, done: ReadDone) -> None:
        self.first = offset >> PAGE_SHIFT
        self.start = offset - self.first * PAGE_SIZE
        self.size = size
        self.done = done
        self.left = -(-(self.start + size) // PAGE_SIZE)
        self.pieces: list[bytes] = [b""] * self.left
        self.error: Exception | None = None
        self.waiting: deque[list[TierLoad]] = deque()  # at most one for each of `pieces`
        self.in_flight = 0  # pages
        self.asking = False

    def put(self, page: PageNumber, found: bytes | Exception) -> None:
        """``page`` is settled; the last one ends the read."""
        if isinstance(found, Exception):
            self.error = found
        else:
            self.pieces[page - self.first] = found
        self.left -= 1
        if not self.left:
            whole = b"".join(self.pieces)
            self.done(self.error or whole[self.start : self.start + self.size])


class Waits:
    """Since when a request has waited for memory at the earliest: the line may have for longer."""

    __slots__ = ("began", "patient_since")

    def __init__(self) -> None:
        self.began = self.patient_since = trio.current_time()


class Write(Waits):
    """One write in line; ``offset`` and ``data`` are what is left of it."""

    __slots__ = ("data", "discards", "done", "error", "in_flight", "offset", "served", "size")

    def __init__(self, offset: int, data: memoryview, done: WriteDone) -> None:
        super().__init__()
        self.offset = offset
        self.data = data
        self.size = len(data)
        self.done = done
        self.in_flight = 0  # pages of it on their way to their places
        self.discards = 0  # that it waits for
        self.served = False
        self.error: Exception | None = None
