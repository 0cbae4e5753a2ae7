"""Dictionaries in use: trained, judged, kept as long as a page needs them, and no longer."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from fuseswap.codecs.registry import ZSTD, ZSTD_DICTIONARY
from fuseswap.errors import CorruptData
from fuseswap.reclaim.dictionary_policy import TrainingSchedule
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.segment_entry import Stream
from fuseswap.units import PageNumber
from tests.support import pages
from tests.support.log_invariants import StoredObject
from tests.support.recompressed_devices import DICTIONARY, make_old, pass_time, recompress
from tests.support.tiered_devices import Tiered

pytestmark = pytest.mark.slow

PAGES = 600
SOON = TrainingSchedule(
    least_pages=300, again_after_pages=300, soon_again_after_pages=300, judged_bytes=1000
)


@pytest.fixture
def schedule() -> TrainingSchedule:
    """Few pages are enough to train from, and to judge."""
    return SOON


def store_related(worker: Tiered, first: int = 0, count: int = PAGES) -> None:
    for page in range(first, first + count):
        worker.store(page, pages.related(page))


def codecs(worker: Tiered) -> Counter[int]:
    get = worker.cache.slots.get
    return Counter(StoredObject.of(page, get(PageNumber(page))).codec for page in worker.expected)


def next_worker(worker: Tiered) -> Tiered:
    following = Tiered(worker.memory, worker.tier, schedule=SOON)
    following.expected = worker.expected
    return following


async def look(worker: Tiered) -> None:
    """The task looks once or twice, and nothing is asked for."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.device.recompression.run)
        await pass_time(2)
        nursery.cancel_scope.cancel()


# -- training ----------------------------------------------------------------------------


async def test_one_is_trained_and_used(tierless: Tiered, mock_clock: MockClock) -> None:
    store_related(tierless)
    before = tierless.cache.statistics().compr_data_size
    await recompress(tierless.device.recompression)
    now = tierless.device.statistics()
    assert (now["dictionaries"], now["dictionaries_trained"]) == (1, 1)
    assert codecs(tierless) == {ZSTD_DICTIONARY: PAGES}
    assert now["compr_data_size"] < before / 2
    await tierless.check()


class Loan:
    """A `TrainingMemory` that says what it was asked."""

    def __init__(self, *, is_there: bool) -> None:
        self.is_there = is_there
        self.asked: list[str] = []

    def borrow(self) -> bool:
        self.asked.append("borrow")
        return self.is_there

    def give_back(self) -> None:
        self.asked.append("give back")


@pytest.mark.parametrize("is_there", [True, False])
async def test_it_is_trained_in_memory_that_was_made_before(
    tierless: Tiered, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    loan = Loan(is_there=is_there)
    monkeypatch.setattr(tierless.device.recompression._training, "_memory", loan)
    store_related(tierless)
    await recompress(tierless.device.recompression)
    assert loan.asked == (["borrow", "give back"] if is_there else ["borrow"])
    assert tierless.device.statistics()["dictionaries"] == is_there
    assert (ZSTD_DICTIONARY in codecs(tierless)) == is_there
    await tierless.check()


async def test_by_age_as_well(tierless: Tiered, mock_clock: MockClock) -> None:
    store_related(tierless)
    make_old(tierless.log)
    await look(tierless)
    assert codecs(tierless) == {ZSTD_DICTIONARY: PAGES}
    await tierless.check()


async def test_the_next_worker_reads_those_pages_and_uses_it(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    store_related(tierless)
    await recompress(tierless.device.recompression)
    following = next_worker(tierless)
    await following.check()
    store_related(following, PAGES)
    await recompress(following.device.recompression)
    assert codecs(following) == {ZSTD_DICTIONARY: 2 * PAGES}
    assert following.device.recompression.dictionaries.trained == 0
    await following.check()


async def test_pages_with_a_dictionary_are_read_from_the_tier(
    tiered: Tiered, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    store_related(tiered)
    await recompress(tiered.device.recompression)
    nursery.start_soon(tiered.writeback.run)
    tiered.writeback.ask(ReclaimRequest.parse("all"))
    await pass_time(2)
    assert tiered.on_tier() == list(range(PAGES))
    assert codecs(tiered) == {ZSTD_DICTIONARY: PAGES}
    await tiered.check()


@pytest.mark.parametrize("percent", [99, 100])
async def test_none_is_kept_that_does_not_win_by_enough(
    tierless: Tiered, mock_clock: MockClock, percent: int
) -> None:
    tierless.device.recompression.dictionaries.gain_percent = percent
    store_related(tierless)
    await recompress(tierless.device.recompression)
    assert tierless.device.statistics()["dictionaries"] == 0
    assert ZSTD_DICTIONARY not in codecs(tierless)
    await tierless.check()


async def test_pages_with_nothing_in_common_make_none(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    for page in range(PAGES):
        tierless.store(page, pages.hexadecimal(page, 1024))
    await recompress(tierless.device.recompression)
    assert tierless.device.statistics()["dictionaries"] == 0
    assert codecs(tierless) == {ZSTD: PAGES}


async def test_too_few_pages_make_none(tierless: Tiered, mock_clock: MockClock) -> None:
    store_related(tierless, count=200)
    await recompress(tierless.device.recompression)
    assert tierless.device.statistics()["dictionaries"] == 0


async def test_where_there_is_no_place_for_another_nothing_changes(
    tierless: Tiered, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tierless.cache.dictionaries, "add", lambda data: None)
    store_related(tierless)
    await recompress(tierless.device.recompression)
    assert tierless.device.recompression.dictionaries.trained == 0
    await tierless.check()


# -- going -------------------------------------------------------------------------------


async def test_one_that_does_not_win_any_more_is_not_used_and_goes(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    dictionaries = tierless.cache.dictionaries
    dictionaries.add(DICTIONARY)
    for page in range(PAGES):
        tierless.store(page, pages.hexadecimal(page, 1024))
    await recompress(tierless.device.recompression)
    assert codecs(tierless)[ZSTD] > PAGES / 2  # from when it was judged on
    needed = codecs(tierless)[ZSTD_DICTIONARY]
    await look(tierless)
    assert len(dictionaries.all) == (needed > 0)
    for page in [p for p in tierless.expected if codec_of(tierless, p) == ZSTD_DICTIONARY]:
        tierless.discard(page)
    await look(tierless)
    assert dictionaries.all == []
    assert tierless.memory.allocated_bytes("dictionaries") == 0
    await tierless.check()


def codec_of(worker: Tiered, page: int) -> int:
    return StoredObject.of(page, worker.cache.slots.get(PageNumber(page))).codec


async def test_old_ones_stay_until_their_last_page_goes(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    dictionaries = tierless.cache.dictionaries
    old = dictionaries.add(DICTIONARY)
    store_related(tierless, count=200)
    await recompress(tierless.device.recompression)
    new = dictionaries.add(DICTIONARY + b"and more")
    store_related(tierless, 200, 50)
    await recompress(tierless.device.recompression)
    assert codecs(tierless) == {ZSTD_DICTIONARY: 250}
    assert tierless.log.dictionary_use.pages[:3] == [200, 50, 0]
    tierless.discard(0, 199)
    following = next_worker(tierless)
    await look(following)
    assert following.cache.dictionaries.all == [old, new]
    await following.check()
    following.discard(199)
    await look(following)
    assert following.cache.dictionaries.all == [new]
    await following.check()


async def test_the_cleaner_moves_such_pages_as_they_are(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    tierless.cache.dictionaries.add(DICTIONARY)
    store_related(tierless, count=2500)
    await recompress(tierless.device.recompression)
    assert codecs(tierless) == {ZSTD_DICTIONARY: 2500}
    for head in tierless.log.heads:
        tierless.log.seal(head)
    for page in range(2500):
        if page % 5:
            tierless.discard(page)
    tierless.cache.load(0)
    cleaner = tierless.writeback.cleaner
    while cleaner.step():
        pass
    assert cleaner.statistics().objects_copied > 0
    assert codecs(tierless) == {ZSTD_DICTIONARY: 500}
    streams = {
        tierless.log.table.stream_of(tierless.segment_of(page)) for page in tierless.expected
    }
    assert Stream.RECOMPRESSED in streams
    await tierless.check()


# -- corrupt -----------------------------------------------------------------------------


async def test_with_a_corrupt_one_its_pages_fail_and_all_others_go_on(
    tierless: Tiered, mock_clock: MockClock
) -> None:
    tierless.cache.dictionaries.add(DICTIONARY)
    store_related(tierless, count=100)
    await recompress(tierless.device.recompression)
    tierless.store(100, pages.compressible(100))
    tierless.device.state.dictionaries.buffer[5000] ^= 1
    following = next_worker(tierless)
    for page in range(100):
        with pytest.raises(CorruptData):
            following.cache.load(page)
    assert following.cache.load(100) == following.expected[100]
    store_related(following, 1000)
    await recompress(following.device.recompression)
    assert following.log.dictionary_use.pages[1] == PAGES + 1
    following.discard(0, 100)
    await look(following)
    assert [one.number for one in following.cache.dictionaries.all] == [1]
    await following.check()
