"""The order in which segments leave, and that nobody stands in line who does not live."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuseswap.cache.segment_kinds import Stream
from fuseswap.cache.state import Geometry
from tests import pages
from tests.cleaned import ROOMY, Cleaned
from tests.stores import SharedMemory


@pytest.fixture
def cleaned(make_memory: Callable[[Geometry], SharedMemory]) -> Cleaned:
    return Cleaned(make_memory(ROOMY))


def in_line(cleaned: Cleaned) -> int:
    departures = cleaned.log.departures
    return sum(map(len, departures._lines))


def empty(cleaned: Cleaned, segment: int) -> None:
    for page in cleaned.pages_of(segment):
        cleaned.discard(page)


def gather(cleaned: Cleaned, segment: int) -> int:
    """Move what lives in ``segment`` to one on its way out; its id."""
    cleaned.cleaner.begin(segment, evict=True)
    while cleaned.cleaner.busy:
        assert cleaned.cleaner.step()
    head = cleaned.log.heads[Stream.EVICTED]
    gathered = head.segment
    cleaned.log.seal(head)
    return gathered


def test_the_oldest_leaves_first(cleaned: Cleaned) -> None:
    segments = [cleaned.seal_one() for _ in range(3)]
    departures = cleaned.log.departures
    assert departures.oldest()[0] == segments[0]
    assert [departures.next() for _ in range(4)] == [*segments, 0]


def test_after_a_failure_it_is_first_again(cleaned: Cleaned) -> None:
    first, second = cleaned.seal_one(), cleaned.seal_one()
    departures = cleaned.log.departures
    assert departures.next() == first
    departures.add(first, first=True)
    assert [departures.next() for _ in range(3)] == [first, second, 0]


def test_nobody_stands_in_line_twice(cleaned: Cleaned) -> None:
    first, second = cleaned.seal_one(), cleaned.seal_one()
    cleaned.log.departures.add(first)
    assert in_line(cleaned) == 2
    assert [cleaned.log.departures.next() for _ in range(3)] == [second, first, 0]


def test_what_leaves_as_it_is_comes_before_the_others(cleaned: Cleaned) -> None:
    cleaned.seal_one()
    for page in range(2000, 2010):
        cleaned.cache.store(page, pages.incompressible(page))
    head = cleaned.log.heads[Stream.INCOMPRESSIBLE]
    raw = head.segment
    cleaned.log.seal(head)
    assert cleaned.log.departures.next() == raw


def test_the_dead_are_taken_out_of_line(cleaned: Cleaned) -> None:
    first, second = cleaned.seal_one(), cleaned.seal_one()
    empty(cleaned, first)
    assert in_line(cleaned) == 1
    assert cleaned.log.departures.next() == second


def test_the_dead_do_not_get_in_line(cleaned: Cleaned) -> None:
    segment = cleaned.seal_one()
    assert cleaned.log.departures.next() == segment
    empty(cleaned, segment)  # while its write failed
    cleaned.log.departures.add(segment, first=True)
    assert in_line(cleaned) == 0


def test_the_lines_are_no_longer_than_there_are_frames(cleaned: Cleaned) -> None:
    """Where nothing leaves: an entry for each segment that was ever sealed was 90 MB a TiB."""
    for _ in range(100):
        empty(cleaned, cleaned.seal_one())
        assert in_line(cleaned) <= 1
    assert len(cleaned.log.departures._gathered) == 0


def test_the_gathered_are_asked_for_alone(cleaned: Cleaned) -> None:
    cleaned.seal_one()
    gathered = gather(cleaned, cleaned.seal_one())
    departures = cleaned.log.departures
    assert departures.next_gathered() == gathered
    assert departures.next_gathered() == 0
    departures.add(gathered, first=True)
    assert departures.next() == gathered, "it stands in both lines, and leaves both"
    assert departures.next_gathered() == 0


def test_one_is_taken_from_the_middle_once(cleaned: Cleaned) -> None:
    first, second, third = (cleaned.seal_one() for _ in range(3))
    departures = cleaned.log.departures
    assert departures.take(second)
    assert not departures.take(second)
    assert [departures.next() for _ in range(3)] == [first, third, 0]


def test_the_pinned_are_passed_over(cleaned: Cleaned) -> None:
    first, second = cleaned.seal_one(), cleaned.seal_one()
    cleaned.log.pin(first)
    assert not cleaned.log.departures.take(first)
    assert cleaned.log.departures.oldest()[0] == second
    assert in_line(cleaned) == 1


def test_the_next_worker_lines_them_up_by_age(cleaned: Cleaned) -> None:
    segments = [cleaned.seal_one() for _ in range(3)]
    cleaned.log.departures.add(segments[0])
    after = Cleaned(cleaned.memory)
    assert [after.log.departures.next() for _ in range(4)] == [*segments, 0]
