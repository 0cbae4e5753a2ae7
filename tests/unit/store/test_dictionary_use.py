"""Counts of what dictionaries are needed: never too low, whatever goes, and exact again in time."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from fuseswap.store.dictionary_use import DictionaryUse
from fuseswap.store.geometry import DICTIONARY_PLACES
from fuseswap.store.segment_table import WORDS, SegmentTable
from fuseswap.units import SegmentId
from tests.support.memory_stores import SharedMemory

ONE = SegmentId(7)

STEPS = 4000


def test_one_dictionary_in_a_segment_is_exact() -> None:
    use = DictionaryUse()
    for _ in range(3):
        use.add(ONE, [4])
    for left in (2, 1, 0):
        use.release(ONE)
        assert (use.pages[4], use.of(ONE), use.pages_in(ONE)) == (
            left,
            {4: left} if left else {},
            left,
        )
    assert use.segments() == []
    assert not use.inexact


def test_with_several_none_has_more_than_are_left() -> None:
    use = DictionaryUse()
    for number in (1, 1, 1, 2):
        use.add(ONE, [number])
    use.release(ONE)
    assert use.of(ONE) == {1: 3, 2: 1}
    use.release(ONE)
    assert use.of(ONE) == {1: 2, 2: 1}
    assert use.inexact == {ONE}
    use.recount(ONE, {2: 2})
    assert (use.of(ONE), use.pages[1:3], use.inexact) == ({2: 2}, [0, 2], set())
    use.release(ONE)
    use.release(ONE)
    assert (use.segments(), use.pages[1:3]) == ([], [0, 0])


def test_a_page_that_is_known_counts_for_its_own() -> None:
    use = DictionaryUse()
    for number in (1, 1, 2, 2):
        use.add(ONE, [number])
    use.release(ONE, 2)
    use.release(ONE, 2)
    assert (use.of(ONE), use.inexact) == ({1: 2}, set())


def test_of_a_segment_on_a_tier_any_may_be_needed() -> None:
    use = DictionaryUse()
    for _ in range(2):
        use.add(ONE, [0, 3])
    assert (use.pages[0], use.pages[3], use.pages_in(ONE)) == (2, 2, 2)
    use.forget(ONE)
    assert not any(use.pages)
    use.release(ONE)  # more than one bit of a word turned over
    assert not any(use.pages)


@pytest.mark.parametrize("seed", range(5))
def test_never_too_low(seed: int) -> None:
    chance = random.Random(seed)
    use = DictionaryUse()
    pages: list[tuple[int, int]] = []
    for _ in range(STEPS):
        if chance.random() < 0.5:
            segment, number = chance.randrange(1, 6), chance.randrange(4)
            use.add(SegmentId(segment), {number, chance.choice((number, 5))})
            pages.append((segment, number))
        elif pages:
            segment, number = pages.pop(chance.randrange(len(pages)))
            use.release(SegmentId(segment), number if chance.random() < 0.2 else None)
        if chance.random() < 0.02:
            segment = chance.randrange(1, 6)
            use.recount(SegmentId(segment), Counter(n for s, n in pages if s == segment))
        needed = Counter(number for _, number in pages)
        assert all(use.pages[number] >= count for number, count in needed.items())
        assert {s: use.pages_in(s) for s in use.segments()} == Counter(s for s, _ in pages)
        assert sum(use.pages) == sum(sum(use.of(s).values()) for s in use.segments())


# -- in the segment table ----------------------------------------------------------------


@pytest.fixture
def table(memory: SharedMemory) -> SegmentTable:
    return SegmentTable(memory.attach())


@pytest.mark.parametrize("numbers", [[], [0], [3, 1], list(range(DICTIONARY_PLACES))])
def test_what_was_noted_is_found(table: SegmentTable, numbers: list[int]) -> None:
    table.entries[WORDS + 3] = 12345
    table.note_dictionaries(SegmentId(1), numbers)
    assert table.dictionaries_of(SegmentId(1)) == sorted(numbers)
    assert table.sealed_at(SegmentId(1)) == 12345


def test_where_nothing_was_noted_it_may_be_any(table: SegmentTable) -> None:
    table.entries[WORDS + 3] = 12345
    assert table.dictionaries_of(SegmentId(1)) == list(range(DICTIONARY_PLACES))


@pytest.mark.parametrize("numbers", [[], [2], [0, 7]])
def test_a_bit_that_turns_over_hides_none(table: SegmentTable, numbers: list[int]) -> None:
    table.note_dictionaries(SegmentId(1), numbers)
    right = table.entries[WORDS + 3]
    for bit in range(64):
        table.entries[WORDS + 3] = right ^ 1 << bit
        assert set(table.dictionaries_of(SegmentId(1))) >= set(numbers)
