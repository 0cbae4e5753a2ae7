"""The recompressor: smaller payloads of the same pages, and dictionaries that pay."""

from __future__ import annotations

import random

import pytest

from fuseswap.codecs.checksum import CHECK_BYTES, Decoder, checksum_of
from fuseswap.codecs.dictionary import Dictionary, number_of
from fuseswap.codecs.recompressor import Packed, Recompressor, train
from fuseswap.codecs.registry import (
    FILL,
    LAST_RAW,
    LZ4,
    RAW,
    ZSTD,
    ZSTD_DICTIONARY,
    parse_compressor,
)
from fuseswap.codecs.zstd import SEARCHED_LEVEL
from tests.support import pages
from tests.support.recompressed_devices import DICTIONARY
from tests.support.tiered_devices import dense

KNOWN = Dictionary(number=1, version=7, data=DICTIONARY)
Object = tuple[int, bytes]


def stored(payload: bytes, codec: int) -> Object:
    return codec, checksum_of(payload, codec).to_bytes(CHECK_BYTES, "little") + payload


def with_lz4(page: bytes) -> Object:
    return stored(parse_compressor("lz4").compress(page), LZ4)


def with_zstd(page: bytes, level: int = 1) -> Object:
    return stored(parse_compressor(f"zstd:{level}").compress(page), ZSTD)


def page_of(packed: Packed) -> bytes:
    """As a load would have it."""
    decoder = Decoder()
    decoder.learn(KNOWN.number, KNOWN.data)
    return decoder.decode(packed.payload, packed.check, packed.codec)


def shrink(recompressor: Recompressor, *objects: Object) -> list[Packed | None]:
    return recompressor.shrink(objects, lambda: False)


def test_high_levels_search_all_of_a_dictionary() -> None:
    """Of 64 KiB, far more than the match tables of a page can hold."""
    chance = random.Random(5)
    words = [chance.randbytes(8) for _ in range(8192)]
    known = Dictionary(1, 1, b"".join(words))
    page = b"".join(chance.choices(words, k=512))
    quick, searched = (
        sum(len(one.payload) for one in shrink(Recompressor(level, known), with_lz4(page)) if one)
        for level in (SEARCHED_LEVEL - 1, SEARCHED_LEVEL)
    )
    assert 0 < searched < 0.8 * quick


@pytest.mark.parametrize("codec", range(LAST_RAW + 1))
def test_a_page_that_was_kept_raw(codec: int) -> None:
    page = pages.compressible(1)
    (packed,) = shrink(Recompressor(6), stored(page, codec))
    assert packed is not None
    assert packed.codec == ZSTD
    assert page_of(packed) == page


def test_pages_become_smaller_and_stay_the_same() -> None:
    made = [pages.hexadecimal(seed) for seed in range(20)]
    objects = [with_lz4(page) for page in made]
    for page, (_, before), packed in zip(
        made, objects, shrink(Recompressor(6), *objects), strict=True
    ):
        assert packed is not None
        assert len(packed.payload) < (len(before) - CHECK_BYTES) * 15 / 16
        assert page_of(packed) == page


def test_a_page_that_is_zstd_already_gains_by_a_dictionary_or_not_at_all() -> None:
    one = with_zstd(pages.related(1))
    assert shrink(Recompressor(6), one) == [None]
    (packed,) = shrink(Recompressor(6, KNOWN), one)
    assert packed is not None
    assert (packed.codec, number_of(packed.payload)) == (ZSTD_DICTIONARY, KNOWN.number)
    assert page_of(packed) == pages.related(1)


@pytest.mark.parametrize(
    "one",
    [
        with_lz4(dense(1)),
        stored(pages.incompressible(1), RAW),
        stored(pages.nearly_incompressible(1, 3900), RAW),  # saves less than a sixteenth
        stored(b"8 bytes.", FILL),
    ],
    ids=["dense", "incompressible", "nearly", "fill"],
)
def test_what_gains_less_than_a_sixteenth_is_left_alone(one: Object) -> None:
    assert shrink(Recompressor(19), one) == [None]
    assert shrink(Recompressor(19, KNOWN), one) == [None]


def test_what_has_a_dictionary_already_is_left_alone() -> None:
    recompressor = Recompressor(6, KNOWN)
    (packed,) = shrink(recompressor, with_lz4(pages.related(1)))
    assert packed is not None
    again = packed.check.to_bytes(CHECK_BYTES, "little") + packed.payload
    assert shrink(recompressor, (packed.codec, again)) == [None]


@pytest.mark.parametrize("make", [with_lz4, with_zstd, lambda page: stored(page, RAW)])
def test_a_corrupt_one_is_left_alone(make: object) -> None:
    assert callable(make)
    codec, right = make(pages.hexadecimal(1))
    for at in (0, CHECK_BYTES, len(right) // 2, len(right) - 1):
        wrong = bytearray(right)
        wrong[at] ^= 16
        assert shrink(Recompressor(6, KNOWN), (codec, bytes(wrong))) == [None]


def test_it_stops_after_the_page_it_is_at() -> None:
    objects = [with_lz4(pages.hexadecimal(seed)) for seed in range(9)]
    asked = iter([False, False, True])
    assert len(Recompressor(3).shrink(objects, lambda: next(asked))) == 3
    assert len(Recompressor(3).shrink(objects, lambda: True)) == 1
    assert Recompressor(3).shrink([], lambda: True) == []


# -- with a dictionary -------------------------------------------------------------------


def test_a_dictionary_that_helps_is_used() -> None:
    page = pages.related(5)
    plain, known = (
        shrink(Recompressor(6, dictionary), with_lz4(page))[0] for dictionary in (None, KNOWN)
    )
    assert plain is None  # zstd alone finds nothing in it that lz4 does not
    assert known is not None
    assert (known.codec, number_of(known.payload)) == (ZSTD_DICTIONARY, KNOWN.number)
    assert known.check == checksum_of(page, ZSTD_DICTIONARY)
    assert page_of(known) == page


def test_a_dictionary_that_makes_a_page_larger_is_not_used_where_both_are_tried() -> None:
    useless = Dictionary(number=1, version=1, data=pages.incompressible(9) * 15)
    (packed, *_) = shrink(Recompressor(6, useless), with_lz4(pages.hexadecimal(1)))
    assert packed is not None
    assert packed.codec in (ZSTD, ZSTD_DICTIONARY)
    alone = shrink(Recompressor(6), with_lz4(pages.hexadecimal(1)))[0]
    assert alone is not None
    assert len(packed.payload) <= len(alone.payload)


def test_some_pages_are_compressed_both_ways_to_judge_it() -> None:
    recompressor = Recompressor(3, KNOWN)
    shrink(recompressor, *(with_lz4(pages.related(seed)) for seed in range(65)))
    plain, known = recompressor.plain_bytes, recompressor.known_bytes
    assert 3 * 1500 < plain < 3 * 2048  # the first, and each 32nd after it
    assert known < plain / 4


def test_without_one_nothing_is_judged() -> None:
    recompressor = Recompressor(3)
    shrink(recompressor, *(with_lz4(pages.related(seed)) for seed in range(40)))
    assert recompressor.plain_bytes == recompressor.known_bytes == 0


# -- training ----------------------------------------------------------------------------


def test_a_dictionary_of_related_pages_wins_on_others() -> None:
    objects = [with_lz4(pages.related(seed)) for seed in range(300)]
    trained = train(Recompressor(3), objects)
    assert trained is not None
    assert trained.held_out == 60
    assert trained.after_bytes < trained.before_bytes / 2
    dictionary = Dictionary(number=1, version=1, data=trained.data)
    (packed,) = shrink(Recompressor(3, dictionary), with_lz4(pages.related(1000)))
    assert packed is not None
    assert packed.codec == ZSTD_DICTIONARY


def test_it_has_to_win_against_the_one_there_is() -> None:
    objects = [with_lz4(pages.related(seed)) for seed in range(300)]
    alone, against = (train(Recompressor(3, known), objects) for known in (None, KNOWN))
    assert alone is not None
    assert against is not None
    assert against.before_bytes < alone.before_bytes / 2
    assert against.after_bytes == alone.after_bytes


def test_a_dictionary_of_pages_with_nothing_in_common_does_not_win() -> None:
    trained = train(Recompressor(3), [with_lz4(pages.hexadecimal(seed)) for seed in range(300)])
    assert trained is not None
    assert trained.after_bytes > trained.before_bytes * 0.99


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_pages_make_none(count: int) -> None:
    assert train(Recompressor(3), [with_lz4(pages.related(n)) for n in range(count)]) is None


def test_corrupt_ones_are_not_learned_from() -> None:
    objects = [with_lz4(pages.related(seed)) for seed in range(300)]
    wrong = [(LZ4, bytes(CHECK_BYTES) + b"nothing") for _ in range(300)]
    trained = train(
        Recompressor(3), [one for pair in zip(objects, wrong, strict=True) for one in pair]
    )
    clean = train(Recompressor(3), objects)
    assert trained == clean
