"""The cleaner: frees sparse segments, one after the other.

A copier that is told what to do next where it has nothing to do.  ``victims.py`` chooses, and
``plans.py`` says what becomes of the objects.  ``writeback.py`` decides when, and hands it
segments of its own choice: to be gathered for a tier, or read from one.
"""

from __future__ import annotations

from collections.abc import Callable, Set

from fuseswap.codecs.checksum import CHECK_BYTES, Decoder
from fuseswap.codecs.recompressor import Packed
from fuseswap.store.copier import Copier, CopierStatistics
from fuseswap.store.plans import Clean, CleanOnTier, Evict, EvictSome
from fuseswap.store.quick_packer import QuickPacker
from fuseswap.store.segment_entry import Mark
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.slot_word import codec_of, is_object_of, length_of, offset_of
from fuseswap.store.victims import Preference, Victims
from fuseswap.units import SegmentId, SegmentRef, page_array


class Cleaner:
    """Cleans one segment at a time, in steps."""

    def __init__(
        self,
        slots: SlotTable,
        log: SegmentLog,
        decoder: Decoder,
        preference: Preference | None = None,
    ) -> None:
        """``preference``: which of the best segments is cleaned; None: the best."""
        self._slots = slots
        self._log = log
        self._decoder = decoder
        self._copier = Copier(slots, log)
        self.victims = Victims(log, preference)
        self.packer = QuickPacker(slots, log, decoder)

    @property
    def busy(self) -> bool:
        """Whether a segment is half cleaned."""
        return self._copier.busy

    def step(
        self, *, urgent: bool = False, skip: Callable[[SegmentId], bool] | None = None
    ) -> bool:
        """Copy some objects; False where there is nothing (more) worth cleaning.

        Also False, and still `busy`, where there is no frame to copy to: free one first.
        ``urgent``: a store waits, so nothing is recompressed.  ``skip``: as `Victims.choose`.
        """
        if self._copier.step(urgent=urgent):
            return True
        if self._copier.busy:
            return False
        segment = self.victims.choose(skip=skip)
        if not segment:
            return False
        self.begin(segment)
        return self._copier.step(urgent=urgent)

    def begin(self, segment: SegmentId) -> None:
        """Take ``segment`` in memory as the next to clean."""
        self._copier.begin(Clean.of(self._log, segment))

    def begin_eviction(self, segment: SegmentId, *, second_chance: bool = True) -> None:
        """Have the objects of ``segment`` in memory gathered to leave for a tier.

        All but those that were loaded since they were stored, which get a ``second_chance``.
        """
        self._copier.begin(Evict.of(self._log, segment, self._pack(), spares=second_chance))

    def begin_eviction_of(self, segment: SegmentId, wanted: Set[int]) -> None:
        """As `begin_eviction`, of the objects ``wanted`` alone, by `object_key`, loaded or not."""
        self._copier.begin(EvictSome.of(self._log, segment, wanted, self._pack()))

    def _pack(self) -> Callable[[int], Packed | None] | None:
        return self.packer.pack if self.packer.is_on else None

    def begin_on_tier(self, segment: SegmentId, stored: bytes) -> None:
        """Clean ``segment`` from the 1 MiB the tier had ``stored``; what lives leaves again."""
        self._copier.begin(CleanOnTier.of(self._log, segment, stored))

    def give_up(self) -> None:
        """Leave the segment that is half cleaned."""
        self._copier.give_up()

    def is_worth_another_read(self, ref: SegmentRef, stored: bytes) -> bool:
        """Whether a live object of the segment is corrupt, or not to be found, in ``stored``.

        False where the segment is not what it was when it was read.  Up to a millisecond.  A
        shared object whose first page has gone is not looked at: its pages are not known here.
        """
        table, segment = self._log.table, ref.id
        if not table.is_current(ref):
            return False
        sound = seen = 0
        for page in set(page_array(stored[table.bounds_of(segment)[1] :])):
            word = self._slots.get(page) if page < self._slots.page_count else 0
            if not is_object_of(word, segment):
                continue
            at = offset_of(word)
            end = at + CHECK_BYTES + length_of(word)
            seen += 1
            sound += self._decoder.is_sound(stored[at:end], codec_of(word))
        return sound < (seen if table.is_marked(segment, Mark.SHARED) else table.live[segment])

    def statistics(self) -> CopierStatistics:
        """A snapshot of the counters."""
        return self._copier.statistics()
