"""Which segment is cleaned next."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuseswap.store.geometry import Geometry
from fuseswap.store.victims import Victims
from fuseswap.units import SEGMENT_BYTES, Location, SegmentId
from tests.support.cleaned_cache import ROOMY, Cleaned
from tests.support.memory_stores import SharedMemory


@pytest.fixture
def cleaned(make_memory: Callable[[Geometry], SharedMemory]) -> Cleaned:
    return Cleaned(make_memory(ROOMY))


def test_nothing_is_chosen_where_nothing_is(cleaned: Cleaned) -> None:
    assert Victims(cleaned.log).choose() == 0
    assert not cleaned.cleaner.step()
    assert not cleaned.cleaner.busy


def test_the_sparser_of_two_segments(cleaned: Cleaned) -> None:
    first, second = cleaned.seal_one(), cleaned.seal_one()
    cleaned.thin_out(first, 0.8)
    cleaned.thin_out(second, 0.2)
    assert Victims(cleaned.log).choose() == second


def test_the_older_of_two_that_are_as_sparse(cleaned: Cleaned) -> None:
    segments = [cleaned.seal_one() for _ in range(3)]
    for segment in segments:
        cleaned.thin_out(segment, 0.5)
    assert Victims(cleaned.log).choose() == segments[0]


def test_benefit_over_cost(cleaned: Cleaned) -> None:
    shares = (0.7, 0.9, 0.45, 0.6, 0.95)
    segments = [cleaned.seal_one() for _ in shares]
    for segment, share in zip(segments, shares, strict=True):
        cleaned.thin_out(segment, share)
    log = cleaned.log

    def score(segment: SegmentId) -> float:
        u = log.table.live_bytes[segment] / SEGMENT_BYTES
        return (1 - u) * (log.table.newest_sequence - log.table.sequence_of(segment) + 1) / u

    assert Victims(cleaned.log).choose() == max(segments, key=score) == segments[2]


def test_the_open_segment_is_never_chosen(cleaned: Cleaned) -> None:
    for page in range(100):
        cleaned.store(page)
    for page in range(99):
        cleaned.discard(page)
    assert Victims(cleaned.log).choose() == 0


def test_more_than_98_percent_live_is_left_alone(cleaned: Cleaned) -> None:
    segment = cleaned.seal_one()
    found = cleaned.pages_of(segment)
    while cleaned.log.table.live_bytes[segment] / SEGMENT_BYTES > 0.98:
        assert Victims(cleaned.log).choose() == 0
        cleaned.discard(found.pop())
    assert Victims(cleaned.log).choose() == segment
    assert Victims(cleaned.log).choose(max_live_share=0.9) == 0


def test_a_window_of_candidates_moves_on(cleaned: Cleaned) -> None:
    victims = Victims(cleaned.log, window=1)
    segments = [cleaned.seal_one() for _ in range(3)]
    for segment in segments:
        cleaned.thin_out(segment, 0.5)
    assert [victims.choose() for _ in range(6)] == segments * 2


def test_what_another_task_is_to_rewrite_is_skipped(cleaned: Cleaned) -> None:
    first, second = cleaned.seal_one(), cleaned.seal_one()
    cleaned.thin_out(first, 0.2)
    cleaned.thin_out(second, 0.8)
    victims = Victims(cleaned.log)
    assert victims.choose(skip=lambda segment: segment == first) == second
    assert victims.choose(skip=lambda segment: True) == 0
    assert victims.choose() == first


def test_a_pin_goes_with_its_segment(cleaned: Cleaned) -> None:
    """Its id is used again."""
    segment = cleaned.seal_one()
    cleaned.log.table.pin(segment)
    for page in cleaned.pages_of(segment):
        cleaned.discard(page)
    for _ in range(20):
        if cleaned.seal_one() == segment:
            break
    else:
        raise AssertionError("the id was not used again")
    assert cleaned.log.table.is_movable(segment)


def test_on_a_tier_the_sparsest(cleaned: Cleaned) -> None:
    shares = (0.5, 0.3, 0.7, 0.9)
    segments = [cleaned.seal_one() for _ in shares]
    victims = Victims(cleaned.log)
    assert victims.choose_on_tier(0, SEGMENT_BYTES) == 0
    for extent, (segment, share) in enumerate(zip(segments, shares, strict=True)):
        cleaned.thin_out(segment, share)
        cleaned.log.relocate(segment, Location(0, extent))
    assert victims.choose() == 0
    assert victims.choose_on_tier(0) == segments[1]
    assert victims.choose_on_tier(1) == 0
    cleaned.log.table.pin(segments[1])
    assert victims.choose_on_tier(0) == segments[0]
    assert victims.choose_on_tier(0, SEGMENT_BYTES // 4) == 0
