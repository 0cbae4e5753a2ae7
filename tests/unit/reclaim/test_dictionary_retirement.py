"""Dictionaries go when they are not worth their memory, or their place is: their pages stay."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from fuseswap.codecs.dictionary import Dictionary
from fuseswap.codecs.recompressor import Repacker
from fuseswap.codecs.registry import RAW, ZSTD
from fuseswap.errors import CorruptData
from fuseswap.reclaim.dictionary_mover import DictionaryMover, Sampled
from fuseswap.reclaim.dictionary_policy import NO_DICTIONARIES, TrainingSchedule
from fuseswap.store.segment_entry import Mark, Stream
from fuseswap.store.slot_word import offset_of, segment_of
from fuseswap.units import PageNumber, SegmentId, page_range
from tests.support import pages
from tests.support.page_families import (
    codec_of,
    compress_with,
    dictionary_for,
    dictionary_of,
    page_of,
    store_family,
    take_all_places,
)
from tests.support.recompressed_devices import pass_time, recompress
from tests.support.tiered_devices import Tiered

pytestmark = pytest.mark.slow

NEW = 600  # pages, enough to train from
SOON = TrainingSchedule(
    least_pages=300, again_after_pages=300, soon_again_after_pages=300, judged_bytes=1000
)


@pytest.fixture
def schedule() -> TrainingSchedule:
    """Few pages are enough to train from, and to judge."""
    return SOON


async def look(worker: Tiered, seconds: float = 64) -> None:
    """The task runs for a minute and a bit, and nothing is asked for."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.device.recompression.run)
        await pass_time(seconds)
        nursery.cancel_scope.cancel()


def next_worker(worker: Tiered) -> Tiered:
    following = Tiered(worker.memory, worker.tier, schedule=SOON)
    following.expected = worker.expected
    return following


def moved(worker: Tiered) -> int:
    return worker.device.statistics()["dictionary_pages_moved"]


# -- for a place -------------------------------------------------------------------------


async def test_with_all_places_taken_another_is_trained_all_the_same(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    old = await take_all_places(tierless)
    new = store_family(tierless, 8, 100, NEW)
    await recompress(tierless.device.recompression)
    now = tierless.device.recompression.dictionaries.statistics()
    assert (now.dictionaries, now.trained, now.dropped) == (8, 1, 1)
    (gone,) = [one for one in old if one not in tierless.cache.dictionaries.all]
    assert moved(tierless) == 1
    current = tierless.cache.dictionaries.current
    assert current is not None
    assert current.number == gone.number
    assert {dictionary_of(tierless, page) for page in new} == {gone.number}
    await tierless.check()
    await next_worker(tierless).check()


async def test_the_one_that_saves_least_goes(tierless: Tiered, mock_clock: MockClock) -> None:
    old = [
        await compress_with(tierless, dictionary_for(n), n, range(n * 20, n * 20 + 20 - 2 * n))
        for n in range(7)
    ]
    last = await compress_with(tierless, dictionary_for(7), 7, range(200, 210))
    store_family(tierless, 8, 300, NEW)
    await recompress(tierless.device.recompression)
    left = tierless.cache.dictionaries.all
    assert old[6] not in left
    assert {*old[:6], last} < set(left)
    await tierless.check()


async def test_one_that_would_save_less_than_all_others_gets_no_place(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    old = await take_all_places(tierless, 50)
    store_family(tierless, 8, 1000, 320)
    for page in range(1000, 1320):  # only some of what is in each is known
        tierless.store(page, page_of(8, page)[:256] + pages.hexadecimal(page)[256:])
    before = {page: tierless.cache.slots.get(page) for page in page_range(0, 400)}
    await recompress(tierless.device.recompression)
    assert tierless.cache.dictionaries.all == old
    assert {page: tierless.cache.slots.get(page) for page in page_range(0, 400)} == before
    assert tierless.device.recompression.dictionaries.waiting is None
    await tierless.check()


async def test_one_program_after_the_other(tierless: Tiered, mock_clock: MockClock) -> None:
    """Twelve programs in turn: each gets its dictionary."""
    for family in range(12):
        store_family(tierless, family, 200 * (family % 3), 200)
        store_family(tierless, family, 1000, 400)
        await recompress(tierless.device.recompression)
        current = tierless.cache.dictionaries.current
        assert current is not None
        assert dictionary_of(tierless, 1000) == current.number
        tierless.discard(200 * (family % 3), 199)
    assert tierless.device.statistics()["dictionaries_trained"] == 12
    assert len(tierless.cache.dictionaries.all) <= 8
    await tierless.check()


# -- burdens -----------------------------------------------------------------------------


async def two(worker: Tiered, old_pages: int) -> list[Dictionary]:
    """An old one for family 0 with some pages, and the one in use, for family 1."""
    return [
        await compress_with(worker, dictionary_for(0), 0, range(old_pages)),
        await compress_with(worker, dictionary_for(1), 1, range(1000, 1100)),
    ]


@pytest.mark.parametrize("loaded", [False, True])
async def test_one_with_few_pages_goes_after_a_minute(
    tierless: Tiered, mock_clock: MockClock, loaded: bool
) -> None:
    _, current = await two(tierless, 2)
    if loaded:
        tierless.cache.load(0)
    before = tierless.memory.allocated_bytes("dictionaries")
    await look(tierless, 50)
    assert len(tierless.cache.dictionaries.all) == 2
    await look(tierless)
    assert tierless.cache.dictionaries.all == [current]
    assert tierless.memory.allocated_bytes("dictionaries") < before
    assert [codec_of(tierless, page) for page in (0, 1)] == [ZSTD, ZSTD]
    assert moved(tierless) == 2
    await tierless.check()
    await next_worker(tierless).check()


async def test_one_that_saves_more_than_it_takes_stays(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    both = await two(tierless, 100)
    await look(tierless, 200)
    assert tierless.cache.dictionaries.all == both
    assert moved(tierless) == 0
    await tierless.check()


async def test_it_is_looked_at_again_when_half_of_its_pages_have_gone(
    tierless: Tiered, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    sample = DictionaryMover.sample

    async def counted(
        mover: DictionaryMover, segment: SegmentId, one: Dictionary, repacker: Repacker, most: int
    ) -> Sampled | None:
        nonlocal looks
        looks += 1
        return await sample(mover, segment, one, repacker, most)

    monkeypatch.setattr(DictionaryMover, "sample", counted)
    _, current = await two(tierless, 100)
    await look(tierless, 200)
    assert looks == 1
    tierless.discard(0, 49)
    await look(tierless, 200)
    assert looks == 1
    tierless.discard(50)
    await look(tierless, 200)
    assert looks == 2
    tierless.discard(51, 48)
    await look(tierless, 200)
    assert looks == 3
    assert tierless.cache.dictionaries.all == [current]
    await tierless.check()


async def test_pages_move_to_the_one_in_use_where_that_is_better(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    old = await compress_with(tierless, dictionary_for(0, count=60), 0, range(250))
    new = await compress_with(tierless, dictionary_for(0), 0, range(1000, 1100))
    before = tierless.cache.statistics().compr_data_size
    await look(tierless)
    assert old not in tierless.cache.dictionaries.all
    assert {dictionary_of(tierless, page) for page in range(250)} == {new.number}
    assert tierless.cache.statistics().compr_data_size < before * 3 / 4
    await tierless.check()


async def test_a_price_is_paid_for_each_page(tierless: Tiered, mock_clock: MockClock) -> None:
    """What is won is less than `dictionary_gain_percent` of what has to be moved."""
    both = [
        await compress_with(tierless, dictionary_for(0, 1, 2), 0, range(200)),
        await compress_with(tierless, dictionary_for(0), 0, range(1000, 1100)),
    ]
    tierless.device.recompression.dictionaries.gain_percent = 80
    await look(tierless)
    assert tierless.cache.dictionaries.all == both
    tierless.device.recompression.dictionaries.gain_percent = 3
    tierless.discard(0, 100)
    await look(tierless, 128)
    assert tierless.cache.dictionaries.all == both[1:]
    await tierless.check()


async def test_without_recompression_nothing_moves(tierless: Tiered, mock_clock: MockClock) -> None:
    both = await two(tierless, 2)
    tierless.device.recompression.set_algorithm("none")
    await look(tierless, 200)
    assert tierless.cache.dictionaries.all == both
    await tierless.check()


async def test_what_is_recompressed_without_one_loses_them_all(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    """`dictionary_gain_percent` of 100: no dictionary is used, and those with few pages go."""
    await two(tierless, 2)
    tierless.discard(1002, 98)
    tierless.device.recompression.dictionaries.gain_percent = NO_DICTIONARIES
    await look(tierless, 200)
    assert [codec_of(tierless, page) for page in (0, 1, 1000, 1001)] == [ZSTD] * 4
    assert len(tierless.cache.dictionaries.all) <= 1
    await tierless.check()


# -- its pages ---------------------------------------------------------------------------


async def test_only_its_own_objects_move(tierless: Tiered, mock_clock: MockClock) -> None:
    await two(tierless, 2)
    get = tierless.cache.slots.get
    before = {page: get(page) for page in page_range(1000, 1100)}
    assert tierless.segment_of(0) == tierless.segment_of(1000)
    await look(tierless)
    assert {page: get(page) for page in page_range(1000, 1100)} == before
    assert tierless.log.table.stream_of(tierless.segment_of(0)) is Stream.RECOMPRESSED
    await tierless.check()


async def test_objects_with_several_pages_keep_them(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    await two(tierless, 2)
    tierless.cache.dedup.set_switch("on")
    for page in (500, 501, 502):  # the index learns of it by the first
        tierless.store(page, tierless.expected[0])
    shared = [page for page in (500, 501, 502) if codec_of(tierless, page) == codec_of(tierless, 0)]
    assert shared
    assert tierless.log.table.is_marked(tierless.segment_of(0), Mark.SHARED)
    tierless.discard(0)  # the page that its directory knows
    await look(tierless)
    assert len(tierless.cache.dictionaries.all) == 1
    assert len({tierless.cache.slots.get(PageNumber(page)) >> 4 for page in shared}) == 1
    await tierless.check()


async def test_a_page_that_does_not_compress_without_it_is_kept_raw(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    page = b"".join(pages.incompressible(1)[at : at + 64] for at in range(0, 4096, 64))
    data = pages.incompressible(1)
    tierless.cache.dictionaries.add(data)
    tierless.store(0, page)
    await recompress(tierless.device.recompression)
    assert dictionary_of(tierless, 0) == 0
    await compress_with(tierless, dictionary_for(1), 1, range(1000, 1100))
    await look(tierless)
    assert codec_of(tierless, 0) == RAW
    assert len(tierless.cache.dictionaries.all) == 1
    await tierless.check()


async def test_a_corrupt_page_keeps_its_dictionary_and_is_not_tried_for_ever(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    old, _ = await two(tierless, 2)
    word = tierless.cache.slots.get(PageNumber(0))
    at = tierless.log.table.bases[segment_of(word)] + offset_of(word) + 10
    tierless.device.state.arena.buffer[at] ^= 4
    tierless.expected.pop(0)
    await look(tierless)
    assert old in tierless.cache.dictionaries.all
    assert codec_of(tierless, 1) == ZSTD
    with pytest.raises(CorruptData):
        tierless.cache.load(0)
    copied = tierless.device.cleaned().objects_copied
    await look(tierless, 300)
    assert tierless.device.cleaned().objects_copied == copied
    tierless.discard(0)
    await look(tierless)
    assert old not in tierless.cache.dictionaries.all
    await tierless.check()


async def test_a_corrupt_word_that_names_no_segment_keeps_nothing(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    """In both parities: of one bit and of two."""
    large = pages.incompressible(1) * 4 + dictionary_for(0)
    await compress_with(tierless, large, 0, range(4))
    current = await compress_with(tierless, dictionary_for(1), 1, range(1000, 1100))
    words = tierless.cache.slots.words
    words[0] ^= 1 << 63
    words[1] ^= 3 << 62
    await look(tierless)
    assert [codec_of(tierless, page) for page in (2, 3)] == [ZSTD, ZSTD]
    for page in (0, 1):
        with pytest.raises(CorruptData):
            tierless.cache.load(page)
    following = next_worker(tierless)
    await look(following)
    assert following.cache.dictionaries.all == [current]


async def test_a_corrupt_dictionary_is_left_to_its_pages(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    await two(tierless, 2)
    tierless.device.state.dictionaries.buffer[1000] ^= 1
    following = next_worker(tierless)
    await look(following, 200)
    assert len(following.cache.dictionaries.all) == 2
    with pytest.raises(CorruptData):
        following.cache.load(0)
    assert following.cache.load(1000) == following.expected[1000]


async def test_without_room_it_stays_and_goes_when_there_is_some(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    both = await two(tierless, 2)
    limit = tierless.cache.pool_limit_bytes
    tierless.cache.pool_limit_bytes = tierless.log.frames.in_use << 20
    await look(tierless, 130)
    assert tierless.cache.dictionaries.all == both
    tierless.cache.pool_limit_bytes = limit
    await look(tierless, 130)
    assert tierless.cache.dictionaries.all == both[1:]
    await tierless.check()
