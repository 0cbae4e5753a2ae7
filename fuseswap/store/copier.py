"""The copier: copies the live objects of one segment forward, in steps, as its plan says.

    begin(plan) -> step ... step -> nothing of the segment is left, or the plan is at its end
                        `-> no frame to copy to: go on once one is free
                        `-> the segment has gone, or was given up

A step copies a bounded number of objects, and nothing is held between two steps.  Each object is
looked at again: one that died or was overwritten meanwhile does not point here any more.  Loads
go on all the time.  An object is found at its old place until its word is changed, and at the new
one from then on.  Each word is a commit of its own.

An object with several pages is copied once; the others get the word of the copy as they are
found.  The directory does not know them all.  So the slot table is looked through instead, 0.4 ms
for each GiB of pages, a piece at a step.  Nothing is shared in the segment meanwhile.

Copied are the stored bytes, check and all, so a corrupt object stays so.  Synchronous.
Writeback, recompression and the retirement of dictionaries have one each.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

from fuseswap.codecs.checksum import CHECK_BYTES
from fuseswap.codecs.dictionary import number_of
from fuseswap.codecs.registry import ZSTD_DICTIONARY
from fuseswap.counting import counter, zeros
from fuseswap.errors import PoolFull
from fuseswap.store.object_size import footprint
from fuseswap.store.plans import STEP_OBJECTS, Move, Plan
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.slot_word import (
    codec_of,
    is_corrupt,
    is_object_of,
    is_same_object,
    length_of,
    offset_of,
    segment_of,
)
from fuseswap.units import FIRST_PAGE, PageNumber, SegmentRef, page_array


@dataclass(slots=True)
class CopierStatistics:
    """Work done: segments freed, objects and bytes copied, segments given up."""

    segments_cleaned: int = counter(
        "Sparse segments the cleaner emptied and freed.", after="tier_read_errors"
    )
    bytes_copied: int = counter(
        "Bytes the cleaner copied forward, 8 to 15 for each object among them.",
        name="cleaner_copied_bytes",
    )
    recompressed_pages: int = counter(
        "Pages that were compressed again, harder: cold ones, and on their way to the file.",
        after="appended_bytes",
    )
    recompressed_bytes_before: int = counter("Bytes those pages took before.")
    recompressed_bytes_after: int = counter("Bytes they took after.")
    objects_copied: int = 0
    given_up: int = 0

    def __add__(self, other: CopierStatistics) -> CopierStatistics:
        """Of two copiers of one log."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return CopierStatistics(*(mine + its for mine, its in pairs))


class Copier:
    """Goes through one segment at a time."""

    def __init__(self, slots: SlotTable, log: SegmentLog) -> None:
        self._slots = slots
        self._log = log
        self._live = log.table.live
        self._plan: Plan | None = None
        self._owners = page_array()  # of one segment, or of a piece of the slot table
        self._swept = FIRST_PAGE  # how far the slot table was looked through for the owners
        # Shared objects that were moved: offset -> (a page, its new word, its segment, and the
        # dictionary it needed before)
        self._moved: dict[int, tuple[PageNumber, int, SegmentRef, int | None]] = {}
        self.counters = zeros(CopierStatistics)

    @property
    def busy(self) -> bool:
        """Whether a segment is half done."""
        return self._plan is not None

    def begin(self, plan: Plan) -> None:
        """Go through the segment of ``plan`` next; one that is half done is given up."""
        if self._plan is not None:
            if self._plan.is_current():
                self.give_up()
            else:
                self._end()
        self._plan = plan
        self._log.close_to_shares(plan.ref.id)
        self._owners = plan.owners()
        self._swept = FIRST_PAGE

    def step(self, *, urgent: bool = False) -> bool:
        """Look at up to `STEP_OBJECTS`; False where the segment has gone.

        Also False, and still `busy`, where there is no frame to copy to: free one first.
        """
        plan = self._plan
        if plan is None or not plan.is_current():
            self._end()
            return False
        done = self.counters
        enough = done.recompressed_pages + plan.packed_at_once
        owners = self._owners
        for _ in range(min(STEP_OBJECTS, len(owners))):
            if done.recompressed_pages == enough:
                break
            try:
                self._move(owners[-1], plan, urgent)
            except PoolFull:
                joined = plan.joined()
                if joined is None:
                    return False
                self._plan = plan = joined
                continue
            owners.pop()
            if self._plan is None:
                return True
        if not owners:
            self._look_for_owners(plan)
        return True

    def give_up(self) -> None:
        """Leave the segment that is half done."""
        if self._plan is not None:
            if self._plan.is_current():
                self._plan.give_up()
            self.counters.given_up += 1
            self._end()

    def _end(self) -> None:
        """The segment is done with.  Its bytes, or payloads, may be as much as it holds."""
        if self._plan is not None:
            self._log.open_to_shares(self._plan.ref.id)
            self._plan = None
            self._moved.clear()

    def _move(self, page: PageNumber, plan: Plan, urgent: bool) -> None:
        """Copy the object of ``page`` forward, if its word still points into the segment."""
        if page >= self._slots.page_count:  # a flipped bit in the directory
            return
        word = self._slots.get(page)
        segment = plan.ref.id
        if not is_object_of(word, segment) or is_corrupt(word):
            return
        new, dictionary = self._moved_to(word) if self._moved else (0, None)
        if not new:
            move = plan.move(word, urgent)
            if move is None:
                return
            new = self._copy(page, word, plan, move)
            if move[1] is not None and codec_of(word) == ZSTD_DICTIONARY:
                dictionary = number_of(plan.read(word)[CHECK_BYTES:])  # it was decoded
            if self._log.is_shared(word):
                ref = self._log.table.ref(segment_of(new))
                self._moved[offset_of(word)] = (page, new, ref, dictionary)
        self._slots.words[page] = new  # crash point: clean-commit
        last = self._live[segment] == 1  # crash point: clean-done
        self._log.release(word, dictionary)  # crash point: clean-release
        if last:
            self.counters.segments_cleaned += 1
            self._end()

    def _moved_to(self, word: int) -> tuple[int, int | None]:
        """The word of the copy, counted once more, where another page of the object has it; or 0.

        And the dictionary the object needed here, where that is known.  Looked at again, since
        that page may have gone since, and all of the copy with it.
        """
        moved = self._moved.get(offset_of(word))
        if moved is None:
            return 0, None
        page, new, ref, dictionary = moved
        if not is_same_object(self._slots.get(page), new):
            return 0, None
        if not self._log.table.is_current(ref) or not self._log.share(new):
            return 0, None
        return new, dictionary

    def _copy(self, page: PageNumber, word: int, plan: Plan, move: Move) -> int:
        """Append the object of ``word`` for ``page``; its new word."""
        head, packed = move
        length = length_of(word)
        done = self.counters
        if packed is None:
            new = self._log.append_stored(head, page, plan.read(word), codec_of(word))
        else:
            new = self._log.append_copy(head, page, packed.payload, packed.check, packed.codec)
            done.recompressed_pages += 1
            done.recompressed_bytes_before += length
            done.recompressed_bytes_after += len(packed.payload)
        done.objects_copied += 1
        done.bytes_copied += footprint(length)
        return new

    def _look_for_owners(self, plan: Plan) -> None:
        """Find more owners in the slot table, a bounded piece of it; or come to the end.

        The directory is done and something is alive: it has shared objects, or an owner record is
        corrupt.
        """
        if plan.sweeps and self._swept < self._slots.page_count:
            found, self._swept = self._slots.sweep(plan.ref.id, self._swept)
            self._owners = page_array(reversed(found))
        else:
            self.counters.given_up += not plan.finish()
            self._end()

    def statistics(self) -> CopierStatistics:
        """A snapshot of the counters."""
        return replace(self.counters)
