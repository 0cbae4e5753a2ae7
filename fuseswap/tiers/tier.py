"""What a tier is: extents of 1 MiB, by number, and the bytes in them.

A tier knows neither pages nor words.  ``tier_table.py`` gives it its number and hands out its
extents.  ``tests/unit/tiers/test_tier_contract.py`` is what each tier must pass.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Protocol, runtime_checkable

# The tier of the file that ``--backing`` names.
BACKING_NAME = "backing_file"

# How long a read may take in all: until `Tier.set_timeout` says otherwise.
TIER_TIMEOUT_S = 30.0

Written = Callable[["OSError | None"], None]
Read = Callable[["bytes | OSError"], None]


def is_late(found: bytes | OSError) -> bool:
    """Whether a read has had all the time there is for it: to ask again would double that."""
    return isinstance(found, OSError) and found.errno == errno.ETIMEDOUT


class Tier(Protocol):
    """A place for sealed segments.

    The contract, for reads and writes alike:

    - The segment that is written does not change until ``done`` is called, unless it dies.  Then
      its frame may be used again, and the new place is never read.  So two looks at the memory
      may differ.  A tier must not need both to be the same.
    - ``done`` is called once, later, on the loop, and never from inside `begin_write` or
      `begin_read`.
    - All or nothing: a read returns all bytes or an error.  What a write that failed has left is
      never read.
    - Only `OSError`, as a value.
    - Memory is bounded, and taken before the tier is registered.
    - A tier is never between the kernel and the answer to a swap-out.

    The ``generation`` is the sequence of the segment, which no other segment ever has.  It is
    part of a remote key.  So a late write of a dead worker meets a key that is not read.  A tier
    on this machine, whose writes end with the process, may ignore it.
    """

    @property
    def name(self) -> str:
        """Its name: short, of one device only once, and the same after a crash."""

    @property
    def read_unit(self) -> int:
        """Bytes that it reads at least, a power of two; any range may be asked for."""

    @property
    def extent_count(self) -> int:
        """How many extents it has."""

    @property
    def volatile(self) -> bool:
        """Whether it may forget what was written."""

    @property
    def is_remote(self) -> bool:
        """Whether it is on another machine: then no store waits long for a write to end."""

    @property
    def is_readable(self) -> bool:
        """Whether others can read what is written there: what no page needs is erased before."""

    def begin_write(self, extent: int, generation: int, segment: memoryview, done: Written) -> None:
        """Write a whole segment (1 MiB, page-aligned); durable as far as the device says."""

    def begin_read(
        self, extent: int, generation: int, offset: int, length: int, done: Read
    ) -> None:
        """Read ``length`` bytes from ``offset`` within ``extent``."""

    def set_timeout(self, seconds: float) -> None:
        """How long a read may take, with all its tries; then it is ETIMEDOUT.

        A file waits for its device as long as that takes, and does not heed it.
        """

    def offset_of(self, extent: int, offset: int) -> int | None:
        """Where byte ``offset`` of ``extent`` is in its file; None where that has no answer."""

    def release(self, extent: int, generation: int) -> None:
        """A hint: the segment is not needed there any more.  Delete it, discard it, or nothing.

        Also called where its write has failed, and never while one is under way.
        """

    async def run(self) -> None:
        """Its own task, for as long as the device is served; it may never return."""


@runtime_checkable
class Copies(Protocol):
    """A tier that has each segment twice (``mirrored_tier.py``)."""

    @property
    def has_late_writes(self) -> bool:
        """Whether writes are done without a copy, which may yet be written."""

    def begin_read_copy(
        self, which: int, extent: int, generation: int, offset: int, length: int, done: Read
    ) -> None:
        """As `Tier.begin_read`, of copy 0 or 1 alone; ENODATA where that does not exist."""

    def begin_repair(
        self,
        bad: int,
        extent: int,
        generation: int,
        memory: memoryview,
        is_good: Callable[[bytes], bool],
        done: Written,
    ) -> None:
        """Write the other copy over the one that is ``bad``, through ``memory`` (1 MiB)."""
