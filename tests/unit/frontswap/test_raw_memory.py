"""The backend ``raw``: slots, their checks, and what the next worker makes of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuseswap.errors import CorruptData, StoreRefused
from fuseswap.frontswap.raw_memory import RawMemory
from fuseswap.frontswap.raw_size import CHECKS_A_PAGE, file_bytes
from fuseswap.store.memory_reserve import AtOnce, Feeder
from fuseswap.store.slot_word import cookie_of, foreign_word, number_of
from fuseswap.units import MIB, PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.fake_feeder import FakeFeeder
from tests.support.raw_memories import RawSlots

NUMBER = 7


@pytest.fixture
def slots() -> Iterator[RawSlots]:
    slots = RawSlots(4)
    yield slots
    slots.close()


def corrupt(page: PageNumber, word: int, reason: str) -> CorruptData:
    return CorruptData(f"page {page}: {reason}")


def attach(slots: RawSlots, feeder: Feeder | None = None) -> RawMemory:
    """As it is registered."""
    raw = RawMemory("raw0", NUMBER, slots.map(), feeder or AtOnce(), corrupt)
    raw.init(1000)
    return raw


def opened(slots: RawSlots) -> RawMemory:
    raw = attach(slots)
    raw.finish_adoption()
    return raw


def store(raw: RawMemory, page: int, data: bytes) -> int:
    return raw.store(PageNumber(page), data, 0)


def load(raw: RawMemory, page: int, word: int) -> bytes:
    return raw.load(PageNumber(page), word)


def test_a_page_comes_back_as_it_was(slots: RawSlots) -> None:
    raw = opened(slots)
    words = [store(raw, page, pages.incompressible(page)) for page in range(4)]
    assert {number_of(word) for word in words} == {NUMBER}
    assert sorted(cookie_of(word) for word in words) == [0, 1, 2, 3]
    for page, word in enumerate(words):
        assert load(raw, page, word) == pages.incompressible(page)
    assert raw.stored_pages == 4


def test_full_is_a_refusal_and_a_free_slot_is_found_wherever_it_is(slots: RawSlots) -> None:
    raw = opened(slots)
    words = [store(raw, page, pages.incompressible(page)) for page in range(4)]
    with pytest.raises(StoreRefused):
        store(raw, 9, pages.compressible(9))
    for free in (2, 0, 3, 1):
        raw.release(PageNumber(free), words[free])
        words[free] = store(raw, free, pages.compressible(free))
        assert load(raw, free, words[free]) == pages.compressible(free)
        with pytest.raises(StoreRefused):
            store(raw, 9, pages.compressible(9))


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 2048, 5000])
def test_checks_and_pages_share_the_file(count: int) -> None:
    slots = RawSlots(count)
    raw = attach(slots)
    assert raw.slot_count == count
    assert file_bytes(count) == (count + -(-count // CHECKS_A_PAGE)) * PAGE_SIZE
    slots.close()


def test_the_last_slot_is_within_the_file() -> None:
    slots = RawSlots(1025)
    raw = opened(slots)
    words = [store(raw, page, pages.filled(page + 1)) for page in range(1025)]
    assert [load(raw, page, word) for page, word in enumerate(words)] == [
        pages.filled(page + 1) for page in range(1025)
    ]
    slots.close()


@pytest.mark.parametrize("at", [0, 4095, "check"])
def test_a_bit_that_turned_over_is_found(slots: RawSlots, at: int | str) -> None:
    raw = opened(slots)
    word = store(raw, 5, pages.incompressible(5))
    other = slots.map()
    place = 0 if at == "check" else PAGE_SIZE + int(at)
    other.buffer[place] ^= 1
    assert not raw.is_sound(PageNumber(5), word)
    with pytest.raises(CorruptData, match="page 5: wrong slot or checksum in backend 'raw0'"):
        load(raw, 5, word)


def test_a_word_of_another_slot_is_found(slots: RawSlots) -> None:
    """Its bytes are sound there, but of another page."""
    raw = opened(slots)
    store(raw, 5, pages.incompressible(5))
    other = store(raw, 6, pages.incompressible(6))
    for wrong in (other, foreign_word(NUMBER, 4), foreign_word(NUMBER, 0xFFFFFFFF)):
        with pytest.raises(CorruptData):
            load(raw, 5, wrong)


def test_the_next_worker_takes_slots_that_no_word_names(slots: RawSlots) -> None:
    raw = opened(slots)
    words = [store(raw, page, pages.incompressible(page)) for page in range(3)]
    again = attach(slots)
    assert load(again, 1, words[1]) == pages.incompressible(1), "before anything is counted"
    with pytest.raises(StoreRefused):
        store(again, 9, pages.compressible(9))
    for page in (0, 2):
        assert again.adopt(PageNumber(page), words[page])
    assert again.finish_adoption()
    new = [store(again, page, pages.compressible(page)) for page in (10, 11)]
    assert {cookie_of(word) for word in new} == {1, 3}
    assert load(again, 2, words[2]) == pages.incompressible(2)
    assert again.stored_pages == 4


def test_a_slot_is_adopted_once_and_only_if_there_is_one(slots: RawSlots) -> None:
    raw = attach(slots)
    assert raw.adopt(PageNumber(1), foreign_word(NUMBER, 3))
    assert not raw.adopt(PageNumber(2), foreign_word(NUMBER, 3))
    assert not raw.adopt(PageNumber(2), foreign_word(NUMBER, 4))
    assert raw.stored_pages == 1


def test_a_slot_is_used_once_its_memory_is_there() -> None:
    """A page is taken where no fault could wait; the rest is ordered piece by piece."""
    feeder, slots = FakeFeeder(), RawSlots(600)
    raw = attach(slots, feeder)
    raw.finish_adoption()
    with pytest.raises(StoreRefused):
        store(raw, 0, pages.filled(1))
    feeder.deliver()
    for page in range(MIB // PAGE_SIZE - 1):  # less the page of checks
        store(raw, page, pages.filled(page + 1))
    with pytest.raises(StoreRefused):
        store(raw, 999, pages.filled(1))
    feeder.deliver()
    store(raw, 999, pages.filled(1))
    slots.close()


def test_memory_that_was_not_there_is_asked_for_again() -> None:
    feeder, slots = FakeFeeder(), RawSlots(4)
    raw = attach(slots, feeder)
    raw.finish_adoption()
    feeder.deliver(made=False)
    with pytest.raises(StoreRefused):
        store(raw, 0, pages.filled(1))
    feeder.deliver()
    store(raw, 0, pages.filled(1))
    slots.close()


@pytest.mark.parametrize("under_way", [False, True])
def test_what_it_had_is_given_back(under_way: bool) -> None:
    feeder, slots = FakeFeeder(), RawSlots(600)
    raw = attach(slots, feeder)
    raw.finish_adoption()
    feeder.deliver()
    raw.release(PageNumber(0), store(raw, 0, pages.filled(1)))
    assert slots.allocated_bytes() > 0
    raw.close()
    if under_way:
        feeder.deliver()
    assert slots.allocated_bytes() == 0
    slots.close()
