"""One byte a segment says where it is, and a walk looks at nothing else."""

from __future__ import annotations

import random

import pytest

from fuseswap.store.segment_entry import Mark, SegmentState, Stream, entry_word, location_bits
from fuseswap.store.segment_places import (
    DONE,
    FRESH,
    IN_MEMORY,
    LOST,
    NOWHERE,
    SegmentPlaces,
    on_tier,
    place_in,
)
from fuseswap.units import MAX_TIERS, NO_SEGMENT, Location, SegmentId


@pytest.mark.parametrize(
    ("word", "place"),
    [
        (0, NOWHERE),
        (entry_word(SegmentState.OPEN, Stream.STORE, 3), FRESH),
        (entry_word(SegmentState.SEALED, Stream.SURVIVORS | Mark.SHARED, 0), FRESH),
        (entry_word(SegmentState.SEALED, Stream.STORE | Mark.TRIED, 3), DONE),
        (entry_word(SegmentState.SEALED, Stream.RECOMPRESSED, 3), DONE),
        (entry_word(SegmentState.OPEN, Stream.EVICTED, 3), DONE),
        (entry_word(SegmentState.LOST, Stream.STORE, 0), LOST),
    ],
)
def test_a_place_is_that_of_word_0(word: int, place: int) -> None:
    assert place_in(word) == place


def test_no_tier_is_taken_for_memory() -> None:
    for tier in range(MAX_TIERS):
        word = entry_word(SegmentState.ON_TIER, Stream.EVICTED, location_bits(Location(tier, 5)))
        assert place_in(word) == on_tier(tier) not in (NOWHERE, FRESH, DONE, LOST)


def test_a_walk_has_each_of_its_kinds_once_in_order() -> None:
    places = SegmentPlaces()
    places.kinds = bytearray(random.Random(3).choices(range(6), k=500))
    for kinds in ((FRESH,), IN_MEMORY, (LOST, on_tier(0))):
        wanted = [at for at in range(1, 500) if places.kinds[at] in kinds]
        assert list(places.walk(kinds)) == wanted
        assert list(places.walk(kinds, 100, 200)) == [at for at in wanted if 100 <= at < 200]
        for last in (0, 250, 499, 507):  # 507: the table of the worker before was longer
            found = list(places.round_from(kinds, SegmentId(last)))
            assert found == [at for at in wanted if at > last] + [at for at in wanted if at <= last]


def test_the_next_of_a_kind() -> None:
    places = SegmentPlaces()
    places.kinds = bytearray((0, 4, 1, 4))
    assert places.next_of(4, NO_SEGMENT) == 1
    assert places.next_of(4, SegmentId(1)) == 3
    assert places.next_of(4, SegmentId(3)) == NO_SEGMENT


def test_many_at_once_leave_the_others_alone() -> None:
    places = SegmentPlaces()
    places.kinds = bytearray((0, 0, 0, FRESH, 0, LOST, 0))
    places.note_on_tier(0, 2, bytes((1, 0, 1, 0)))
    places.note_on_tier(9, 6, bytes((1,)))
    assert list(places.kinds) == [0, 0, on_tier(0), FRESH, on_tier(0), LOST, on_tier(9)]
