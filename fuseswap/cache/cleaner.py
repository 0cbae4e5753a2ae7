"""The cleaner: copies the live objects of sparse segments forward and drops the segment.

Which one: benefit over cost, ``(1 - u) * age / u`` (LFS, Rosenblum 1991; RAMCloud
runs its log the same way), u the live share of a segment in memory; never one more than
98 % live, since copying it would free next to nothing.

A segment is cleaned in steps of a bounded number of objects, and nothing is held
between two steps.  An object that dies, or is overwritten, meanwhile is simply not
copied: its word does not point here any more.  Loads go on all the time: an object is
found at its old place until its word is changed, and at the new one from then on.

An object with several pages is copied once; the others get the word of the copy as they are
found.  The directory of its segment does not know them all, so the slot table is looked through
instead, 0.4 ms for each GiB of pages, a piece at a step.

Copied are the stored bytes, check and all, so an object that is corrupt stays so.  On its
way to a tier an lz4 object that is sound may be compressed again, quickly (`recompress`);
and a segment can be rewritten with payloads that were made smaller elsewhere (`rewrite`).
Synchronous; ``writeback.py`` and ``recompression.py`` decide when, each with a cleaner of
its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace

from fuseswap.cache.checks import CHECK_BYTES, Decoder, checksum_of
from fuseswap.cache.codecs import LZ4, ZSTD
from fuseswap.cache.log_head import LogHead
from fuseswap.cache.recompressor import Packed
from fuseswap.cache.segment_kinds import Mark, SegmentState, Stream
from fuseswap.cache.segments import OBJECT_OVERHEAD, SegmentLog
from fuseswap.cache.slot_word import (
    codec_of,
    is_corrupt,
    is_loaded,
    is_object_of,
    is_same_object,
    length_of,
    object_key,
    offset_of,
    segment_of,
)
from fuseswap.cache.slots import SlotTable
from fuseswap.cache.state import SEGMENT_BYTES
from fuseswap.counting import counter, zeros
from fuseswap.errors import PoolFull
from fuseswap.units import SegmentRef

MAX_LIVE_SHARE = 0.98
STEP_OBJECTS = 64  # about 120 us
_TRIED = 4  # objects, to see whether recompressing a segment gains anything
STEP_RECOMPRESSED = 12  # of them, about 200 us
SPARSE_BYTES = SEGMENT_BYTES * 3 // 4  # on a tier, a fuller segment is not worth its I/O
LAST_RESORT_BYTES = SEGMENT_BYTES * 19 // 20  # on a tier that is full
WINDOW = 256  # segments looked at for one choice, about 200 us: the best of these, not of all


@dataclass(slots=True)
class CleanerStatistics:
    """Work done: segments freed, objects and bytes copied, segments given up."""

    segments_cleaned: int = counter(
        "Sparse segments the cleaner emptied and freed.", after="tier_read_errors"
    )
    bytes_copied: int = counter(
        "Bytes the cleaner copied forward, 8 for each object among them.",
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

    def __add__(self, other: CleanerStatistics) -> CleanerStatistics:
        """Of two cleaners of one log."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return CleanerStatistics(*(mine + its for mine, its in pairs))


class Cleaner:
    """Cleans one segment at a time, in steps."""

    def __init__(self, slots: SlotTable, log: SegmentLog, decoder: Decoder) -> None:
        self._slots = slots
        self._log = log
        self._decoder = decoder
        self._warm_head: LogHead = log.heads[Stream.SURVIVORS]
        self._cold_head = self._warm_head
        self._spares = False
        self._stored = b""  # the bytes of a victim on the tier
        self._emptied = 0
        self._hand = 0
        self._ref = SegmentRef(0, 0)
        self._owners: array[int] = array("I")  # of one segment, or of a piece of the slot table
        self._swept = 0  # how far the slot table was looked through for the owners
        # Shared objects that were moved: offset -> (a page, its new word, its segment)
        self._moved: dict[int, tuple[int, int, SegmentRef]] = {}
        self.counters = zeros(CleanerStatistics)
        self._evicts = False  # the victim was taken out of line: others stand in it still
        self._recompresses = False
        self._packed: Mapping[int, Packed] | None = None
        self.leave: Callable[[int], bool] = lambda segment: False  # somebody else's to rewrite
        self.at_leisure = False  # what somebody else is to rewrite can be left to them
        self.hurries = False  # somebody waits: there is no time to recompress
        # Makes an lz4 payload smaller, or returns None; for what is on its way to a tier.
        self.recompress: Callable[[bytes], bytes | None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a segment is half cleaned."""
        return self._victim != 0

    @property
    def _victim(self) -> int:
        """The segment that is being cleaned, 0: none.  Nothing is shared in it meanwhile."""
        return self._emptied

    @_victim.setter
    def _victim(self, segment: int) -> None:
        if self._emptied:
            self._log.open_to_shares(self._emptied)
        self._emptied = segment
        if segment:
            self._log.close_to_shares(segment)
        else:  # as much as a segment each, for nothing
            self._stored, self._packed = b"", None
            self._moved.clear()

    def choose(self, max_live_share: float = MAX_LIVE_SHARE) -> int:
        """The segment in memory that is best cleaned next; 0 where none is worth it."""
        log = self._log
        best, best_score = 0, 0.0
        newest = log.table.newest_sequence
        for segment in self._window(lambda s: log.table.bases[s] >= 0 and log.table.is_movable(s)):
            share = log.table.live_bytes[segment] / SEGMENT_BYTES
            if share > max_live_share or (self.at_leisure and self.leave(segment)):
                continue
            age = newest - log.table.sequence_of(segment) + 1
            score = (1 - share) * age / share
            if score > best_score:
                best, best_score = segment, score
        return best

    def _window(self, wanted: Callable[[int], bool]) -> Iterator[int]:
        """Up to `WINDOW` segments that are ``wanted``, going on where the last call stopped."""
        known = len(self._log.table.live)
        seen = 0
        for _ in range(known - 1):
            self._hand = self._hand + 1 if self._hand + 1 < known else 1
            if wanted(self._hand):
                yield self._hand
                seen += 1
                if seen == WINDOW:
                    return

    def choose_on_tier(self, most_bytes: int = SPARSE_BYTES) -> int:
        """The sparsest segment on the tier of those looked at; 0: all hold more than that alive."""
        log = self._log
        on_tier = [
            s for s in self._window(self._is_on_tier) if log.table.live_bytes[s] <= most_bytes
        ]
        return min(on_tier, key=lambda segment: log.table.live_bytes[segment], default=0)

    def _is_on_tier(self, segment: int) -> bool:
        log = self._log
        on_tier = log.table.state_of(segment) is SegmentState.ON_TIER
        return on_tier and log.table.live[segment] > 0 and not log.table.is_pinned(segment)

    def step(self, max_live_share: float = MAX_LIVE_SHARE) -> bool:
        """Copy up to `STEP_OBJECTS`; False where there is nothing (more) worth cleaning.

        Also False, and still `busy`, where there is no frame to copy to: free one first.
        """
        stale = not self._victim or not self._is_still_there()
        if stale and self._packed is not None:
            self._victim = 0
            return False
        if stale and not self.begin(self.choose(max_live_share)):
            return False
        done = self.counters
        enough = done.recompressed_pages + (
            STEP_RECOMPRESSED if self._recompresses else STEP_OBJECTS
        )
        for _ in range(min(STEP_OBJECTS, len(self._owners))):
            if done.recompressed_pages == enough:
                break
            try:
                self._move(self._owners[-1])
            except PoolFull:
                if not self._join_heads():
                    return False
                continue
            self._owners.pop()
            if not self._victim:
                return True
        if not self._owners and self._victim:
            self._look_for_owners()
        return True

    def _join_heads(self) -> bool:
        """There is no frame for both streams: what is left of the victim goes where there is room.

        The last frame takes a whole victim, but not two halves of one.  Not on its way to a tier.
        """
        warm, cold = self._warm_head, self._cold_head
        if warm is cold or self._evicts or self._packed is not None or self._stored:
            return False
        self._warm_head = self._cold_head = max(warm, cold, key=lambda h: h.bound - h.tail)
        return True

    def give_up(self) -> None:
        """Leave the segment that is half cleaned; one on its way out gets in line again."""
        if self._victim and self._is_still_there() and self._evicts:
            self._log.eviction_queue.add(self._victim, first=True)
        self.counters.given_up += self._victim != 0
        self._victim = 0

    def is_worth_another_read(self, ref: SegmentRef, stored: bytes) -> bool:
        """Whether a live object of the segment is corrupt, or not to be found, in ``stored``.

        False where the segment is not what it was when it was read.  Up to a millisecond.
        Of shared objects whose first page has gone nobody looks: their pages are not known here.
        """
        log, segment = self._log, ref.id
        if not log.table.is_current(ref):
            return False
        sound = seen = 0
        for page in set(array("I", stored[log.table.bounds_of(segment)[1] :])):
            word = self._slots.get(page) if page < self._slots.page_count else 0
            if not is_object_of(word, segment):
                continue
            at = offset_of(word)
            end = at + CHECK_BYTES + length_of(word)
            seen += 1
            sound += self._decoder.is_sound(stored[at:end], codec_of(word))
        return sound < (
            seen if log.table.is_marked(segment, Mark.SHARED) else log.table.live[segment]
        )

    def begin_on_tier(self, segment: int, stored: bytes) -> None:
        """Clean ``segment`` from the 1 MiB the tier had ``stored``; what lives leaves again."""
        self.give_up()
        self._victim = segment
        self._stored = stored
        self._warm_head = self._log.heads[Stream.SURVIVORS]
        self._cold_head = self._log.heads[Stream.EVICTED]
        self._spares = False
        self._evicts = self._recompresses = False
        self._packed = None
        self._begin(segment)
        if not self._log.table.is_marked(segment, Mark.SHARED):
            self._owners = array("I", stored[self._log.table.bounds_of(segment)[1] :])

    def begin(self, segment: int, *, evict: bool = False, second_chance: bool = True) -> bool:
        """Take ``segment`` in memory as the next to clean (0: none).

        With ``evict`` its objects are gathered to leave for a tier, but for those that
        were loaded since they were stored, which get a ``second_chance``.
        """
        if self._victim and self._is_still_there():
            self.give_up()
        self._victim = segment
        self._stored = b""
        self._packed = None
        stream = Stream.SURVIVORS
        if evict:
            stream = Stream.EVICTED
        elif segment and self._log.table.is_recompressed(segment):
            stream = Stream.RECOMPRESSED
        self._warm_head = self._log.heads[Stream.SURVIVORS]
        self._cold_head = self._log.heads[stream]
        self._spares = second_chance
        self._evicts = evict
        self._recompresses = evict and self.recompress is not None
        if segment:
            self._begin(segment)
            if not self._log.table.is_marked(segment, Mark.SHARED):
                self._owners = self._log.owners(segment)
        return segment != 0

    def rewrite(self, segment: int, packed: Mapping[int, Packed], *, spare: bool = True) -> None:
        """Take ``segment`` as the next to `step` through, with smaller payloads by `object_key`.

        With ``spare``, what was loaded since it was stored and has none goes to the survivors.
        """
        self.begin(segment, second_chance=spare)
        self._cold_head = self._log.heads[Stream.RECOMPRESSED]
        self._packed = packed

    def _begin(self, segment: int) -> None:
        self._ref = self._log.table.ref(segment)
        self._owners = array("I")
        self._swept = 0
        self._moved.clear()

    def gains(self, segment: int) -> bool:
        """Whether some objects of a segment in memory can be recompressed: a few are tried."""
        if self.recompress is None or self._log.table.is_recompressed(segment):
            return False
        log, tried = self._log, 0
        for page in log.owners(segment):
            word = self._slots.get(page) if page < self._slots.page_count else 0
            if is_object_of(word, segment):
                if self._recompress(word) is not None:
                    return True
                tried += 1
                if tried == _TRIED:
                    break
        return False

    def _is_still_there(self) -> bool:
        """Whether the segment is the one that was begun, and where it was then."""
        log, segment = self._log, self._victim
        same = log.table.is_current(self._ref)
        return same and (log.table.bases[segment] >= 0) != bool(self._stored)

    def _move(self, page: int) -> None:
        """Copy the object of ``page`` forward, if its word still points into the victim."""
        if page >= self._slots.page_count:  # a flipped bit in the directory
            return
        word = self._slots.get(page)
        if not is_object_of(word, self._victim):
            return
        if is_corrupt(word):
            return
        new = self._moved_to(word) if self._moved else 0
        if not new:
            new = self._copy(page, word)
            if self._log.is_shared(word):
                self._moved[offset_of(word)] = (page, new, self._log.table.ref(segment_of(new)))
        self._slots.words[page] = new  # crash point: clean-commit
        last = self._log.table.live[self._victim] == 1  # crash point: clean-done
        self._log.release(word)  # crash point: clean-release
        if last:
            self.counters.segments_cleaned += 1
            self._victim = 0

    def _moved_to(self, word: int) -> int:
        """The word of the copy, counted once more, where another page of the object has it; or 0.

        Looked at again, since that page may have gone since, and all of the copy with it.
        """
        page, new, ref = self._moved.get(offset_of(word), (0, 0, None))
        if ref is None or not is_same_object(self._slots.get(page), new):
            return 0
        return new if self._log.table.is_current(ref) and self._log.share(new) else 0

    def _copy(self, page: int, word: int) -> int:
        """Append the object of ``word`` for ``page``; its new word."""
        length = length_of(word)
        offset = offset_of(word)
        head = self._warm_head if self._spares and is_loaded(word) else self._cold_head
        packed = None
        if self._packed is not None:
            packed = self._packed.get(object_key(word))
            head = head if packed is None else self._cold_head
        elif self._recompresses and head is self._cold_head and not self.hurries:
            packed = self._recompress(word)
        if packed is not None:
            new = self._log.append(head, page, packed.payload, packed.check, packed.codec)
            self.counters.recompressed_pages += 1
            self.counters.recompressed_bytes_before += length
            self.counters.recompressed_bytes_after += len(packed.payload)
        else:
            if self._stored:
                stored = self._stored[offset : offset + CHECK_BYTES + length]
            else:
                stored = self._log.stored(word)
            new = self._log.append_stored(head, page, stored, codec_of(word))
        self.counters.objects_copied += 1
        self.counters.bytes_copied += length + OBJECT_OVERHEAD
        return new

    def _recompress(self, word: int) -> Packed | None:
        """An object, made smaller; None where it stays as it is."""
        if codec_of(word) != LZ4 or self.recompress is None:
            return None
        stored = self._log.stored(word)
        if not self._decoder.is_sound(stored, LZ4):
            return None  # corrupt it is, and stays
        harder = self.recompress(stored[CHECK_BYTES:])
        return Packed(harder, ZSTD, checksum_of(harder, ZSTD)) if harder else None

    def _look_for_owners(self) -> None:
        """Find more owners in the slot table: a bounded piece of it.

        The directory is done and something is still live: it has shared objects, or an owner
        record is corrupt.
        """
        if self._swept < self._slots.page_count:
            found, self._swept = self._slots.sweep(self._victim, self._swept)
            self._owners = array("I", reversed(found))
        else:
            self.counters.given_up += 1  # words of it are corrupt: it can never be emptied
            self._log.table.pin(self._victim)
            self._victim = 0

    def statistics(self) -> CleanerStatistics:
        """A snapshot of the counters."""
        return replace(self.counters)
