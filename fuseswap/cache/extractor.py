"""The extractor: a cleaner that moves some objects out of a segment and leaves the others there.

Which ones: those for which somebody has another payload.  The steps and the commit are those of
cleaning, in memory and on the tier; an object that is not named keeps its place and its word.
``dictionary_mover.py`` has one, for the pages of a dictionary that goes.
"""

from __future__ import annotations

from collections.abc import Mapping

from fuseswap.cache.cleaner import Cleaner
from fuseswap.cache.recompressor import Packed
from fuseswap.cache.segment_kinds import Mark, Stream
from fuseswap.cache.slot_word import object_key


class Extractor(Cleaner):
    """Goes through one segment at a time, in steps.  ``recompressed_pages``: objects moved."""

    _packed: Mapping[int, Packed]

    def take_out(self, segment: int, packed: Mapping[int, Packed], stored: bytes = b"") -> None:
        """Take ``segment`` as the next to `step` through: what is ``packed`` moves.

        By `object_key`.  ``stored``: the 1 MiB of it where it is on the tier; what is moved leaves
        again.
        """
        if stored:
            self.begin_on_tier(segment, stored)
        else:
            self.begin(segment, second_chance=False)
            self._cold_head = self._log.heads[Stream.RECOMPRESSED]
        self._packed = packed
        if not self._log.table.is_marked(segment, Mark.SHARED):
            self._swept = self._slots.page_count  # the directory knows all

    def _move(self, page: int) -> None:
        if page < self._slots.page_count and object_key(self._slots.get(page)) in self._packed:
            super()._move(page)

    def _look_for_owners(self) -> None:
        if self._swept < self._slots.page_count:
            super()._look_for_owners()
        else:
            self._victim = 0
