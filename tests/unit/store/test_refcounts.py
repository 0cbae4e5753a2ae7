"""References of shared objects: counts by location, whatever comes and goes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from fuseswap.store.refcounts import MOST, Refcounts
from fuseswap.store.slot_word import object_word
from fuseswap.units import SegmentId


def word_at(segment: int, offset: int) -> int:
    return object_word(SegmentId(segment), offset, 1, 0)


@pytest.mark.parametrize("offsets", [60, 700], ids=["that collide", "that spread"])
def test_counts_are_those_of_a_dict(offsets: int) -> None:
    chance = random.Random(offsets)
    references, expected = Refcounts(), Counter[int]()
    words = [word_at(1 + n % 3, n * 4104 % (1 << 20)) for n in range(offsets)]
    for _ in range(20000):
        word = chance.choice(words)
        if chance.random() < 0.48:
            expected[word] += 1
            assert references.add(word) == expected[word]
        else:
            left = expected[word] - 1
            assert references.drop(word) == left
            expected[word] = max(0, left)
    assert all(references.count(word) == expected[word] for word in words)
    for word in words:
        while references.drop(word) >= 0:
            pass
    assert references.allocated_bytes == 0


def test_an_object_has_a_bounded_number_of_pages() -> None:
    references, word = Refcounts(), word_at(5, 72)
    assert [references.add(word) for _ in range(MOST)] == list(range(1, MOST + 1))
    assert references.add(word) == 0
    assert references.count(word) == MOST
    assert references.drop(word) == MOST - 1


def test_a_segment_has_a_bounded_number_of_shared_objects() -> None:
    references = Refcounts()
    words = [word_at(5, 16 * n) for n in range(5000)]
    taken = [word for word in words if references.add(word)]
    assert taken == words[:4096]
    assert references.add(words[0]) == 2
    assert references.add(word_at(6, 0)) == 1
    assert references.allocated_bytes < 40_000


def test_settling_takes_the_first_reference_off_each_object() -> None:
    references = Refcounts()
    for number in range(6000):
        for _ in range(1 + (number % 5 == 0) * number % 7):
            references.add(word_at(3, 150 * number), bounded=False)
    extra = {n: (n % 5 == 0) * n % 7 for n in range(6000)}
    assert references.settle(SegmentId(3)) == sum(extra.values())
    assert all(references.count(word_at(3, 150 * n)) == extra[n] for n in extra)
    assert references.settle(SegmentId(4)) == 0
    references.forget(SegmentId(3))
    assert references.allocated_bytes == 0
