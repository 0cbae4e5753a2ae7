"""Plans: where each object goes, as what, and what happens at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest

from fuseswap.codecs.checksum import CHECK_BYTES, checksum_of
from fuseswap.codecs.recompressor import Packed
from fuseswap.codecs.registry import LZ4, ZSTD
from fuseswap.store.copier import Copier
from fuseswap.store.geometry import Geometry
from fuseswap.store.plans import STEP_PACKED, Clean, CleanOnTier, Evict, Extract, Plan, Rewrite
from fuseswap.store.segment_entry import Mark, Stream
from fuseswap.store.slot_word import as_loaded, codec_of, object_key, segment_of
from fuseswap.units import SEGMENT_BYTES, Location, PageNumber, SegmentId, page_range
from tests.support import pages
from tests.support.cleaned_cache import ROOMY, Cleaned
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import SharedMemory

SMALLER = Packed(b"smaller", ZSTD, 0)
PAGES = 100


@pytest.fixture
def cleaned(make_memory: Callable[[Geometry], SharedMemory]) -> Cleaned:
    return Cleaned(make_memory(ROOMY))


@pytest.fixture
def segment(cleaned: Cleaned) -> SegmentId:
    """A sealed segment of `PAGES` pages that zstd makes smaller."""
    for page in range(PAGES):
        cleaned.expected[page] = pages.compressible(page)
        cleaned.cache.store(page, cleaned.expected[page])
    head = cleaned.log.heads[Stream.STORE]
    made = head.segment
    cleaned.log.seal(head)
    return made


def way(plan: Plan, word: int, *, urgent: bool = False) -> tuple[Stream, Packed | None] | None:
    move = plan.move(word, urgent)
    return None if move is None else (move[0].stream, move[1])


def test_in_memory_recompressed_objects_stay_among_themselves(
    cleaned: Cleaned, segment: SegmentId
) -> None:
    word = cleaned.cache.slots.get(PageNumber(0))
    plan = Clean.of(cleaned.log, segment)
    assert way(plan, word) == way(plan, as_loaded(word)) == (Stream.SURVIVORS, None)
    assert plan.joined() is None
    cleaned.log.table.mark(segment, Mark.TRIED)
    plan = Clean.of(cleaned.log, segment)
    assert way(plan, word) == (Stream.RECOMPRESSED, None)
    assert way(plan, as_loaded(word)) == (Stream.SURVIVORS, None)


@pytest.mark.parametrize("opened", [Stream.SURVIVORS, Stream.RECOMPRESSED])
def test_where_one_head_has_room_all_go_there(
    cleaned: Cleaned, segment: SegmentId, opened: Stream
) -> None:
    cleaned.log.table.mark(segment, Mark.TRIED)
    word = cleaned.log.append(cleaned.log.heads[opened], PageNumber(0), b"x", 0, LZ4)
    cleaned.log.release(cleaned.cache.slots.get(PageNumber(0)))
    cleaned.cache.slots.words[0] = word
    joined = Clean.of(cleaned.log, segment).joined()
    assert joined is not None
    assert way(joined, word) == way(joined, as_loaded(word)) == (opened, None)
    assert joined.joined() is None


def test_cold_objects_leave_smaller_unless_a_store_waits(
    cleaned: Cleaned, segment: SegmentId
) -> None:
    word = cleaned.cache.slots.get(PageNumber(0))
    plan = Evict.of(cleaned.log, segment, lambda word: SMALLER)
    assert way(plan, word) == (Stream.EVICTED, SMALLER)
    assert way(plan, word, urgent=True) == (Stream.EVICTED, None)
    assert way(plan, as_loaded(word)) == (Stream.SURVIVORS, None)
    plan = Evict.of(cleaned.log, segment, None, spares=False)
    assert way(plan, word) == way(plan, as_loaded(word)) == (Stream.EVICTED, None)


def test_from_a_tier_all_leaves_again(cleaned: Cleaned, segment: SegmentId) -> None:
    word = cleaned.cache.slots.get(PageNumber(0))
    plan = CleanOnTier.of(cleaned.log, segment, bytes(cleaned.log.view(segment)))
    assert way(plan, word) == way(plan, as_loaded(word)) == (Stream.EVICTED, None)
    assert plan.read(word) == cleaned.log.stored(word)
    assert plan.owners() == cleaned.log.owners(segment)
    assert not plan.is_current()
    cleaned.log.relocate(segment, Location(0, 0))
    assert plan.is_current()


def test_loaded_objects_are_rewritten_where_they_became_smaller(
    cleaned: Cleaned, segment: SegmentId
) -> None:
    one, other = cleaned.cache.slots.get(PageNumber(0)), cleaned.cache.slots.get(PageNumber(1))
    plan = Rewrite.of(cleaned.log, segment, {object_key(one): SMALLER})
    assert way(plan, as_loaded(one)) == (Stream.RECOMPRESSED, SMALLER)
    assert way(plan, other) == (Stream.RECOMPRESSED, None)
    assert way(plan, as_loaded(other)) == (Stream.SURVIVORS, None)
    plan = Rewrite.of(cleaned.log, segment, {}, spares=False)
    assert way(plan, as_loaded(other)) == (Stream.RECOMPRESSED, None)


def test_only_named_objects_are_extracted(cleaned: Cleaned, segment: SegmentId) -> None:
    one, other = cleaned.cache.slots.get(PageNumber(0)), cleaned.cache.slots.get(PageNumber(1))
    packed = {object_key(one): SMALLER}
    plan = Extract.of(cleaned.log, segment, packed)
    assert way(plan, as_loaded(one)) == (Stream.RECOMPRESSED, SMALLER)
    assert way(plan, other) is None
    plan = Extract.of(cleaned.log, segment, packed, bytes(SEGMENT_BYTES))
    assert way(plan, one) == (Stream.EVICTED, SMALLER)


def test_the_owners_of_a_segment_with_shared_objects_are_swept_for(
    cleaned: Cleaned, segment: SegmentId
) -> None:
    plan = Extract.of(cleaned.log, segment, {})
    assert (plan.sweeps, len(plan.owners())) == (False, PAGES)
    cleaned.log.table.mark(segment, Mark.SHARED)
    assert (plan.sweeps, len(plan.owners())) == (True, 0)


def test_a_plan_does_not_change(cleaned: Cleaned, segment: SegmentId) -> None:
    plan = Rewrite.of(cleaned.log, segment, {})
    with pytest.raises(FrozenInstanceError):
        plan.spares = False  # type: ignore[misc]


def test_only_an_eviction_that_is_given_up_is_put_in_line_again(
    cleaned: Cleaned, segment: SegmentId
) -> None:
    queue = cleaned.log.eviction_queue
    copier = Copier(cleaned.cache.slots, cleaned.log)
    assert queue.pop() == segment
    copier.begin(Clean.of(cleaned.log, segment))
    copier.give_up()
    assert queue.pop() == 0
    copier.begin(Evict.of(cleaned.log, segment, None))
    copier.give_up()
    assert (queue.pop(), queue.pop()) == (segment, 0)
    assert copier.statistics().given_up == 2


def test_another_plan_gives_up_the_one_before(cleaned: Cleaned, segment: SegmentId) -> None:
    queue = cleaned.log.eviction_queue
    assert queue.pop() == segment
    copier = Copier(cleaned.cache.slots, cleaned.log)
    copier.begin(Evict.of(cleaned.log, segment, None))
    copier.begin(Clean.of(cleaned.log, segment))
    assert queue.pop() == segment
    while copier.busy:
        assert copier.step()
    now = copier.statistics()
    assert (now.given_up, now.segments_cleaned, now.objects_copied) == (1, 1, PAGES)
    cleaned.check()


def test_a_step_compresses_fewer_objects_than_it_copies(
    cleaned: Cleaned, segment: SegmentId
) -> None:
    cleaned.cleaner.packer.switch(True)
    cleaned.cleaner.begin_eviction(segment)
    assert cleaned.cleaner.step()
    now = cleaned.cleaner.statistics()
    assert (now.recompressed_pages, now.objects_copied) == (STEP_PACKED, STEP_PACKED)
    assert cleaned.cleaner.step(urgent=True)
    now = cleaned.cleaner.statistics()
    assert (now.recompressed_pages, now.objects_copied) == (STEP_PACKED, STEP_PACKED + 64)
    get = cleaned.cache.slots.get
    assert {codec_of(get(PageNumber(page))) for page in cleaned.expected} == {LZ4, ZSTD}
    cleaned.check()


def test_what_is_extracted_from_a_tier_leaves_again(cleaned: Cleaned, segment: SegmentId) -> None:
    """The others keep their places and words."""
    get = cleaned.cache.slots.get
    before = [get(page) for page in page_range(0, PAGES)]
    stored = bytes(cleaned.log.view(segment))
    payloads = {word: cleaned.log.stored(word)[CHECK_BYTES:] for word in before[::2]}
    packed = {
        object_key(word): Packed(payload, LZ4, checksum_of(payload, LZ4))
        for word, payload in payloads.items()
    }
    cleaned.log.relocate(segment, Location(0, 0))
    copier = Copier(cleaned.cache.slots, cleaned.log)
    copier.begin(Extract.of(cleaned.log, segment, packed, stored))
    while copier.busy:
        assert copier.step()
    changed = [page for page in page_range(0, PAGES) if get(page) != before[page]]
    assert changed == list(range(0, PAGES, 2))
    assert {cleaned.log.table.stream_of(segment_of(get(PageNumber(page)))) for page in changed} == {
        Stream.EVICTED
    }
    assert cleaned.log.table.live[segment] == PAGES // 2
    assert not cleaned.log.table.is_pinned(segment)
    assert copier.statistics().given_up == 0
    assert {page: cleaned.cache.load(page) for page in changed} == {
        page: cleaned.expected[page] for page in changed
    }
    check_invariants(cleaned.cache)
