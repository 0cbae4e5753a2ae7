"""Dictionaries: kept in the shared state, found by the next worker, never taken for another."""

from __future__ import annotations

import errno
import random

import pytest

from fuseswap.codecs.checksum import CHECK_BYTES, Decoder, checksum_of
from fuseswap.codecs.dictionary import MAX_DICTIONARIES, Dictionary, number_of
from fuseswap.codecs.recompressor import DICTIONARY_BYTES, Packed, Recompressor
from fuseswap.codecs.registry import RAW, ZSTD_DICTIONARY
from fuseswap.errors import CorruptData
from fuseswap.store.dictionary_area import MAX_DICTIONARY_BYTES, Dictionaries
from fuseswap.store.geometry import DICTIONARY_PLACE_BYTES, DICTIONARY_PLACES
from fuseswap.store.superblock import SharedState
from tests.support import pages
from tests.support.memory_stores import SharedMemory
from tests.support.recompressed_devices import DICTIONARY

DATA_AT = 64
PAGE = pages.related(1)


class Kept:
    """The dictionaries of one worker, and what opens its pages."""

    def __init__(self, memory: SharedMemory) -> None:
        self.state: SharedState = memory.attach()
        self.buffer = self.state.dictionaries.buffer
        self.decoder = Decoder()
        self.dictionaries = Dictionaries(self.state.dictionaries, self.decoder.learn)

    def add(self, data: bytes = DICTIONARY) -> Dictionary:
        added = self.dictionaries.add(data)
        assert added is not None
        return added

    def open(self, packed: Packed) -> bytes:
        return self.decoder.decode(packed.payload, packed.check, packed.codec)


def another(number: int) -> bytes:
    return random.Random(number).randbytes(3000)


def packed_with(dictionary: Dictionary) -> Packed:
    stored = checksum_of(PAGE, RAW).to_bytes(CHECK_BYTES, "little") + PAGE
    (packed,) = Recompressor(3, dictionary).shrink([(RAW, stored)], lambda: False)
    assert packed is not None
    assert packed.codec == ZSTD_DICTIONARY
    assert number_of(packed.payload) == dictionary.number
    return packed


def test_one_that_is_added_opens_its_pages_for_every_later_worker(memory: SharedMemory) -> None:
    kept = Kept(memory)
    assert (kept.dictionaries.current, kept.dictionaries.all) == (None, [])
    added = kept.add()
    packed = packed_with(added)
    assert len(packed.payload) < len(PAGE) // 8
    for worker in (kept, Kept(memory), Kept(memory)):
        assert worker.dictionaries.current == added
        assert worker.open(packed) == PAGE


def test_the_newest_is_the_current_one_and_all_stay(memory: SharedMemory) -> None:
    kept = Kept(memory)
    added = [kept.add(), *(kept.add(another(number)) for number in range(1, 4))]
    packed = packed_with(added[0])
    assert [one.number for one in added] == [0, 1, 2, 3]
    for worker in (kept, Kept(memory)):
        assert worker.dictionaries.all == added
        assert worker.dictionaries.current == added[-1]
        assert worker.dictionaries.get(1) == added[1]
        assert worker.open(packed) == PAGE


def test_a_number_without_a_dictionary_stands_for_none(memory: SharedMemory) -> None:
    kept = Kept(memory)
    kept.add()
    numbers = range(1, MAX_DICTIONARIES)
    assert [kept.dictionaries.get(number) for number in numbers] == [None] * len(numbers)


def test_one_without_a_version_was_never_added(memory: SharedMemory) -> None:
    """As a worker leaves it that dies before the commit, or in the middle of a drop."""
    kept = Kept(memory)
    packed = packed_with(kept.add())
    kept.buffer[:4] = bytes(4)
    following = Kept(memory)
    assert following.dictionaries.all == []
    assert memory.allocated_bytes("dictionaries") == 0
    with pytest.raises(CorruptData):
        following.open(packed)


def test_one_that_is_dropped_gives_its_memory_and_its_place_back(memory: SharedMemory) -> None:
    kept = Kept(memory)
    old, new = kept.add(), kept.add(another(1))
    packed = packed_with(old)
    kept.dictionaries.drop(old)
    assert memory.allocated_bytes("dictionaries") <= DICTIONARY_PLACE_BYTES
    for worker in (kept, Kept(memory)):
        assert worker.dictionaries.all == [new]
        with pytest.raises(CorruptData):
            worker.open(packed)
    third = kept.add(another(2))
    assert (third.number, kept.dictionaries.current) == (old.number, third)
    assert Kept(memory).dictionaries.current == third


def test_there_are_eight_places(memory: SharedMemory) -> None:
    kept = Kept(memory)
    for number in range(DICTIONARY_PLACES):
        kept.add(another(number))
    assert kept.dictionaries.add(DICTIONARY) is None
    assert len(Kept(memory).dictionaries.all) == DICTIONARY_PLACES
    kept.dictionaries.drop(kept.dictionaries.all[3])
    assert kept.add().number == 3


def test_one_that_is_trained_fills_a_place() -> None:
    assert DICTIONARY_BYTES == MAX_DICTIONARY_BYTES


def test_one_that_does_not_fit_is_not_kept(memory: SharedMemory) -> None:
    kept = Kept(memory)
    assert kept.dictionaries.add(bytes(MAX_DICTIONARY_BYTES + 1)) is None
    assert kept.dictionaries.add(b"") is None
    assert memory.allocated_bytes("dictionaries") == 0
    kept.add(random.Random(1).randbytes(MAX_DICTIONARY_BYTES))
    assert len(Kept(memory).dictionaries.all) == 1


def test_without_memory_there_is_none(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(memory)
    first = kept.add(another(1))

    def populate(offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "no memory")

    with monkeypatch.context() as patch:
        patch.setattr(kept.state.dictionaries, "populate", populate)
        assert kept.dictionaries.add(DICTIONARY) is None
    assert kept.dictionaries.all == Kept(memory).dictionaries.all == [first]
    assert kept.add().number == 1


@pytest.mark.parametrize("at", [1, 3, 4, 7, 8, 15, DATA_AT, DATA_AT + len(DICTIONARY) - 1])
def test_a_corrupt_one_is_kept_until_nobody_needs_it(memory: SharedMemory, at: int) -> None:
    kept = Kept(memory)
    packed = packed_with(kept.add())
    kept.buffer[at] ^= 1 << at % 8
    following = Kept(memory)
    (corrupt,) = following.dictionaries.all
    assert (corrupt.data, following.dictionaries.current) == (b"", None)
    with pytest.raises(CorruptData):
        following.open(packed)
    added = following.add()
    assert added.number != corrupt.number
    with pytest.raises(CorruptData):
        following.open(packed)
    following.dictionaries.drop(corrupt)
    assert Kept(memory).dictionaries.all == [added]


def test_a_version_that_became_zero_frees_the_place_but_opens_no_page(
    memory: SharedMemory,
) -> None:
    kept = Kept(memory)
    packed = packed_with(kept.add())
    kept.buffer[0] ^= 1
    following = Kept(memory)
    assert following.add(another(1)).number == number_of(packed.payload)
    with pytest.raises(CorruptData):
        following.open(packed)


def test_a_version_of_ones_does_not_end_them_all(memory: SharedMemory) -> None:
    kept = Kept(memory)
    kept.add()
    kept.buffer[:4] = b"\xff" * 4
    following = Kept(memory)
    added = following.add()
    assert Kept(memory).dictionaries.current == following.dictionaries.current == added
