"""Relocation: a whole segment moves, to a tier, to another tier, or back into memory.

    read -> erase -> write -> look again -> flip its location -> release the old place

The one primitive behind writeback, and behind draining a tier, demotion and promotion.  No slot
word changes and no lock is held: while it moves, a segment is loaded, overwritten and discarded
as always.  Its bytes are sealed, so there is one version of them.  Those that no page needs become
zeros first (``eraser.py``), where others can read the new place.

The flip is one write of word 0 of the segment's entry: the **commit**.  Until then the old place
is the valid one, also after a crash, and the new one is taken for this segment alone.  From then
on the old place is free.  A load that is under way from there looks again when it ends
(`SegmentTable.is_at`), and starts over.

Between two tiers the bytes go through a frame: it is aligned, and its memory is there.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial

import trio

from fuseswap.errors import PoolFull
from fuseswap.reclaim.eraser import Eraser
from fuseswap.store.frame_pool import NO_FRAME
from fuseswap.store.segment_entry import SegmentState
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import SlotTable
from fuseswap.tiers.callbacks import await_callback, result_of
from fuseswap.tiers.tier_reader import TierReader
from fuseswap.tiers.tier_table import TierTable
from fuseswap.units import SEGMENT_BYTES, Location, SegmentRef


class Outcome(Enum):
    """What became of a segment that was to move."""

    MOVED = "moved"
    DIED = "died"  # or moved otherwise, while it was written: its bytes are there for nothing
    GONE = "gone"  # the same, and nothing was written


class NotWritten(OSError):
    """The new place could not be written: a matter of that tier, and not of the segment."""


class Relocation:
    """Moves segments of ``segment_log`` between memory and ``tiers``.

    ``doubts`` looks at the 1 MiB that a tier had stored.  Where an object in it is corrupt they
    are read once more, since the old place will not be asked again.
    """

    def __init__(
        self,
        segment_log: SegmentLog,
        tiers: TierTable,
        reader: TierReader,
        doubts: Callable[[SegmentRef, bytes], bool],
        slots: SlotTable,
    ) -> None:
        self._log = segment_log
        self._tiers = tiers
        self._reader = reader
        self._doubts = doubts
        self._eraser = Eraser(slots, segment_log)

    async def relocate(self, ref: SegmentRef, to: Location | None) -> Outcome:
        """Move the sealed segment ``ref`` to ``to``, or into memory where that is None.

        ``to`` was taken from the table of tiers, and is the segment's or free again in the end.
        Raises `OSError` where it cannot be read, `NotWritten` where it cannot be written, and
        `PoolFull` where no frame is free.  The segment is where it was then.
        """
        try:
            return await self._relocate(ref, to)
        finally:
            if to is not None and not self._is_at(ref, to):  # whatever was raised: it says so
                self._tiers.release(to, ref.sequence)  # crash point: relocate-undone

    async def _relocate(self, ref: SegmentRef, to: Location | None) -> Outcome:
        log = self._log
        if not log.table.is_current(ref):
            return Outcome.GONE
        where = log.table.location_of(ref.id)
        assert log.table.state_of(ref.id) is not SegmentState.OPEN
        if isinstance(where, int):
            return Outcome.MOVED if to is None else await self._write(ref, where, where, to)
        if where is None:
            return Outcome.GONE
        frame = log.frames.take(cleaning=True)
        if frame == NO_FRAME:
            raise PoolFull(f"segment {ref.id} finds no frame on its way")
        try:
            if not await self._fill(frame, ref, where):
                return Outcome.GONE
            if to is not None:
                return await self._write(ref, where, frame, to)
            log.relocate(ref.id, frame)  # crash point: relocate-back
            frame = NO_FRAME
            return Outcome.MOVED
        finally:
            if frame != NO_FRAME:
                log.frames.give_back(frame)

    async def _fill(self, frame: int, ref: SegmentRef, where: Location) -> bool:
        """Read the segment into ``frame``; False where it is not there any more."""
        try:
            stored = await self._read(ref, where)
            if self._doubts(ref, stored):
                stored = await self._read(ref, where, again=True)
        except OSError:
            if self._is_at(ref, where):
                raise
            return False
        if not self._is_at(ref, where):
            return False
        with self._log.frame_view(frame) as view:
            view[:] = stored  # crash point: relocate-read
        return True

    async def _read(self, ref: SegmentRef, where: Location, *, again: bool = False) -> bytes:
        begin = partial(
            self._reader.begin_read,
            where,
            ref.sequence,
            0,
            SEGMENT_BYTES,
            again=again,
            is_gone=lambda: not self._is_at(ref, where),
        )
        found: bytes = result_of(await await_callback(begin))
        return found

    async def _write(
        self, ref: SegmentRef, where: Location | int, frame: int, to: Location
    ) -> Outcome:
        """Write what is in ``frame``, look again, flip.  Not cancellable, since the I/O is not."""
        if self._tiers.is_readable(to):
            await self._eraser.erase(ref.id, frame, partial(self._is_at, ref, where))
            if not self._is_at(ref, where):
                return Outcome.GONE
        view = self._log.frame_view(frame)
        begin = partial(self._tiers.begin_write, to, ref.sequence, view)
        try:
            with trio.CancelScope(shield=True):
                _check(await await_callback(begin))  # crash point: relocate-write
        finally:
            view.release()
        if not self._is_at(ref, where):
            return Outcome.DIED
        self._log.relocate(ref.id, to)  # crash point: relocate-written
        return Outcome.MOVED

    def _is_at(self, ref: SegmentRef, where: Location | int) -> bool:
        table = self._log.table
        return table.is_current(ref) and table.location_of(ref.id) == where


def _check(error: OSError | None) -> None:
    """Raise `NotWritten` for an ``error``."""
    if error is not None:
        raise NotWritten(error.errno, error.strerror)
