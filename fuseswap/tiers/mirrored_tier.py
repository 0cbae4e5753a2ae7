"""The mirrored tier: each segment in two tiers, so that one of them may fail.

    write    to both; done when both are, an error only where both fail (``mirror_writes.py``)
    read     from the first, and where that fails or is late from the second (``mirror_reads.py``)
    copy     from just one: for who finds the bytes wrong, and for a scrub
    repair   what one half has, looked at, is written to the other

A half that failed a write does not have that segment, but maybe an older one, and its bytes do not
show that.  So there is a *mark* of one byte for each extent, which says which half alone has it.
It is written before the write is answered, so before any location names the extent.  In shared
memory it outlives the worker.  Without, the next worker believes both halves.  What it reads from
the stale one has wrong tags, where that is encrypted, or wrong checksums.  Who finds these asks
for the other copy.

A half that could not be read is asked second for a while: a load does not wait for the same
time-out again and again.  So is one whose last write failed.

Where both halves are encrypted each has a key of its own (``segment_cipher.py``): of a segment
that dies meanwhile they may get different bytes.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import trio

from fuseswap.counting import counter, gauge, zeros
from fuseswap.tiers.callbacks import fail_later
from fuseswap.tiers.mirror_reads import MirrorReads
from fuseswap.tiers.mirror_writes import BOTH, MirrorWrites
from fuseswap.tiers.tier import Read, Tier, Written
from fuseswap.units import PAGE_SIZE, SEGMENT_BYTES

log = logging.getLogger(__name__)


@dataclass(slots=True)
class MirrorStatistics:
    """Counts of one mirror."""

    mirror: str
    mirror_one_sided: int = gauge(
        "segments", "Segments that only one half of each mirror has.", labels=("mirror",)
    )
    mirror_one_sided_writes: int = counter(
        "Writes that reached only one half of each mirror.", labels=("mirror",)
    )
    mirror_second_reads: int = counter(
        "Reads that the second half of each mirror answered.", labels=("mirror",)
    )
    mirror_repairs: int = counter(
        "Segments that were written anew to one half of each mirror.", labels=("mirror",)
    )


class _Repair:
    """The repair under way of the half ``bad``."""

    __slots__ = ("bad", "done", "extent", "generation", "held", "is_good", "memory")

    def __init__(
        self,
        bad: int,
        extent: int,
        generation: int,
        memory: memoryview,
        is_good: Callable[[bytes], bool],
        done: Written,
    ) -> None:
        self.bad = bad
        self.extent = extent
        self.generation = generation
        self.memory = memory
        self.is_good = is_good
        self.done = done
        self.held: list[Callable[[], None]] = []  # 2 at most: the release, and the next write


class MirroredTier:
    """Both ``halves``, as large as the smaller one; a `fuseswap.tiers.tier.Tier`.

    ``marks``: a byte for each extent, zeros when the mirror is new.
    """

    def __init__(
        self, name: str, halves: tuple[Tier, Tier], marks: bytearray | memoryview | None = None
    ) -> None:
        self.name = name
        self.halves = halves
        self.read_unit = max(half.read_unit for half in halves)
        self.extent_count = min(half.extent_count for half in halves)
        self.counters = zeros(MirrorStatistics, mirror=name)
        self._marks = bytearray(self.extent_count) if marks is None else marks
        self._one_sided = sum(_marked(self._marks))
        self._repair: _Repair | None = None
        self._writes = MirrorWrites(name, halves, self._mark)
        self._reads = MirrorReads(halves, self._writes.fails)

    @property
    def is_readable(self) -> bool:
        """See `Tier`: whether one of the halves is."""
        return any(half.is_readable for half in self.halves)

    @property
    def volatile(self) -> bool:
        """See `Tier`: where both may forget."""
        return all(half.volatile for half in self.halves)

    @property
    def is_remote(self) -> bool:
        """See `Tier`: where both are; one that does not answer is soon left out."""
        return all(half.is_remote for half in self.halves)

    @property
    def has_late_writes(self) -> bool:
        """See `Copies`."""
        return any(map(self._writes.is_late, range(2)))

    def statistics(self) -> MirrorStatistics:
        """A snapshot."""
        return replace(
            self.counters,
            mirror_one_sided=self._one_sided,
            mirror_one_sided_writes=self._writes.one_sided,
            mirror_second_reads=self._reads.second_reads,
        )

    def only_half(self, extent: int) -> int | None:
        """The half that alone has what is in ``extent``, None where both should."""
        mark = self._marks[extent]
        return None if mark == BOTH else mark - 1

    def _mark(self, extent: int, mark: int) -> None:
        self._one_sided += (mark != BOTH) - (self._marks[extent] != BOTH)
        self._marks[extent] = mark

    # -- writes ------------------------------------------------------------------------

    def begin_write(self, extent: int, generation: int, segment: memoryview, done: Written) -> None:
        """See `Tier`."""
        if self._is_repaired(extent, partial(self.begin_write, extent, generation, segment, done)):
            return
        self._writes.begin(extent, generation, segment, done)

    # -- reads -------------------------------------------------------------------------

    def begin_read(
        self, extent: int, generation: int, offset: int, length: int, done: Read
    ) -> None:
        """See `Tier`."""
        where = extent, generation, offset, length
        only = self.only_half(extent)
        if only is None:
            self._reads.begin(where, done)
        else:
            self._reads.begin_from(only, where, done)

    def begin_read_copy(
        self, which: int, extent: int, generation: int, offset: int, length: int, done: Read
    ) -> None:
        """As `begin_read`, of the half ``which`` alone; ENODATA where that does not have it."""
        if self.only_half(extent) == 1 - which:
            fail_later(done, OSError(errno.ENODATA, f"{self.halves[which].name} does not have it"))
        else:
            where = extent, generation, offset, length
            self._reads.begin_from(which, where, done, is_copy=True)

    # -- repair ------------------------------------------------------------------------

    def begin_repair(
        self,
        bad: int,
        extent: int,
        generation: int,
        memory: memoryview,
        is_good: Callable[[bytes], bool],
        done: Written,
    ) -> None:
        """Write what the other half has in ``extent`` to the half ``bad``.

        ``memory``: 1 MiB, page-aligned, not used otherwise until `done`.  ``is_good`` gets the
        1 MiB before they are written.  The segment may die meanwhile: what comes to that extent
        next waits.  Errors: EBUSY (one at a time), ENODATA, ESTALE (it died), EBADMSG (not good).
        """
        if self._repair is not None:
            fail_later(done, OSError(errno.EBUSY, f"mirror {self.name} is being repaired"))
            return
        if self._writes.is_late(bad):
            fail_later(done, OSError(errno.EBUSY, f"{self.halves[bad].name} has writes under way"))
            return
        good = 1 - bad
        self._repair = repair = _Repair(bad, extent, generation, memory, is_good, done)
        read = partial(self._read_for_repair, repair)
        self.begin_read_copy(good, extent, generation, 0, SEGMENT_BYTES, read)

    def _read_for_repair(self, repair: _Repair, found: bytes | OSError) -> None:
        if not isinstance(found, bytes):
            self._repair_ended(repair, found)
        elif repair.held:
            self._repair_ended(repair, OSError(errno.ESTALE, "the segment has died"))
        elif not repair.is_good(found):
            self._repair_ended(repair, OSError(errno.EBADMSG, "the other half is no better"))
        else:
            repair.memory[:] = found
            # While it is written, and where that fails, it is in neither state.
            self._mark(repair.extent, 1 + (1 - repair.bad))
            half = self.halves[repair.bad]
            written = partial(self._repair_written, repair)
            half.begin_write(repair.extent, repair.generation, repair.memory, written)

    def _repair_written(self, repair: _Repair, error: OSError | None) -> None:
        if error is None:
            self._mark(repair.extent, BOTH)
            self.counters.mirror_repairs += 1
        self._repair_ended(repair, error)

    def _repair_ended(self, repair: _Repair, error: OSError | None) -> None:
        self._repair = None
        for call in repair.held:
            call()
        repair.done(error)

    def _is_repaired(self, extent: int, call: Callable[[], None]) -> bool:
        """Whether a repair of ``extent`` is under way; ``call`` follows it then."""
        if self._repair is None or self._repair.extent != extent:
            return False
        self._repair.held.append(call)
        return True

    # -- the rest ----------------------------------------------------------------------

    def set_timeout(self, seconds: float) -> None:
        """See `Tier`: for both halves together."""
        self._reads.set_timeout(seconds)
        self._writes.set_timeout(seconds)

    def offset_of(self, extent: int, offset: int) -> int | None:
        """See `Tier`: there are two."""
        return None

    def release(self, extent: int, generation: int) -> None:
        """See `Tier`."""
        if self._is_repaired(extent, partial(self.release, extent, generation)):
            return
        self._mark(extent, BOTH)
        for which, half in enumerate(self.halves):
            if not self._writes.is_late(which):
                half.release(extent, generation)

    async def run(self) -> None:
        """See `Tier`: those of both halves."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._reads.run)
            nursery.start_soon(self._writes.run)
            for half in self.halves:
                nursery.start_soon(half.run)


def _marked(marks: bytearray | memoryview) -> list[int]:
    """How many extents are marked, in pieces: no copy of all of them."""
    pieces = range(0, len(marks), PAGE_SIZE)
    return [
        len(one) - one.count(BOTH) for one in (bytes(marks[at : at + PAGE_SIZE]) for at in pieces)
    ]
