"""The order in which segments leave, and that nobody stands in line who does not live."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuseswap.store.geometry import Geometry
from fuseswap.store.segment_entry import Stream
from fuseswap.units import SegmentId
from tests.support import pages
from tests.support.cleaned_cache import ROOMY, Cleaned
from tests.support.memory_stores import SharedMemory

pytestmark = pytest.mark.slow


@pytest.fixture
def cleaned(make_memory: Callable[[Geometry], SharedMemory]) -> Cleaned:
    return Cleaned(make_memory(ROOMY))


def in_line(cleaned: Cleaned) -> int:
    queue = cleaned.log.eviction_queue
    return sum(map(len, queue._lines))


def empty(cleaned: Cleaned, segment: SegmentId) -> None:
    for page in cleaned.pages_of(segment):
        cleaned.discard(page)


def gather(cleaned: Cleaned, segment: SegmentId) -> SegmentId:
    """Move what lives in ``segment`` to one on its way out; its id."""
    cleaned.cleaner.begin_eviction(segment)
    while cleaned.cleaner.busy:
        assert cleaned.cleaner.step()
    head = cleaned.log.heads[Stream.EVICTED]
    gathered = head.segment
    cleaned.log.seal(head)
    return gathered


def test_the_oldest_leaves_first(cleaned: Cleaned) -> None:
    segments = [cleaned.seal_one() for _ in range(3)]
    queue = cleaned.log.eviction_queue
    assert queue.oldest()[0] == segments[0]
    assert [queue.pop() for _ in range(4)] == [*segments, 0]


def test_after_a_failure_it_is_first_again(cleaned: Cleaned) -> None:
    first, second = cleaned.seal_one(), cleaned.seal_one()
    queue = cleaned.log.eviction_queue
    assert queue.pop() == first
    queue.add(first, first=True)
    assert [queue.pop() for _ in range(3)] == [first, second, 0]


def test_nobody_stands_in_line_twice(cleaned: Cleaned) -> None:
    first, second = cleaned.seal_one(), cleaned.seal_one()
    cleaned.log.eviction_queue.add(first)
    assert in_line(cleaned) == 2
    assert [cleaned.log.eviction_queue.pop() for _ in range(3)] == [second, first, 0]


def test_what_leaves_as_it_is_comes_before_the_others(cleaned: Cleaned) -> None:
    cleaned.seal_one()
    for page in range(2000, 2010):
        cleaned.cache.store(page, pages.incompressible(page))
    head = cleaned.log.heads[Stream.INCOMPRESSIBLE]
    raw = head.segment
    cleaned.log.seal(head)
    assert cleaned.log.eviction_queue.pop() == raw


def test_the_dead_are_taken_out_of_line(cleaned: Cleaned) -> None:
    first, second = cleaned.seal_one(), cleaned.seal_one()
    empty(cleaned, first)
    assert in_line(cleaned) == 1
    assert cleaned.log.eviction_queue.pop() == second


def test_the_dead_do_not_get_in_line(cleaned: Cleaned) -> None:
    segment = cleaned.seal_one()
    assert cleaned.log.eviction_queue.pop() == segment
    empty(cleaned, segment)  # while its write failed
    cleaned.log.eviction_queue.add(segment, first=True)
    assert in_line(cleaned) == 0


def test_the_lines_are_no_longer_than_there_are_frames(cleaned: Cleaned) -> None:
    """Where nothing leaves: an entry for each segment that was ever sealed was 90 MB a TiB."""
    for _ in range(100):
        empty(cleaned, cleaned.seal_one())
        assert in_line(cleaned) <= 1
    assert len(cleaned.log.eviction_queue._gathered) == 0


def test_the_gathered_are_asked_for_alone(cleaned: Cleaned) -> None:
    cleaned.seal_one()
    gathered = gather(cleaned, cleaned.seal_one())
    queue = cleaned.log.eviction_queue
    assert queue.pop_gathered() == gathered
    assert queue.pop_gathered() == 0
    queue.add(gathered, first=True)
    assert queue.pop() == gathered, "it stands in both lines, and leaves both"
    assert queue.pop_gathered() == 0


def test_one_is_taken_from_the_middle_once(cleaned: Cleaned) -> None:
    first, second, third = (cleaned.seal_one() for _ in range(3))
    queue = cleaned.log.eviction_queue
    assert queue.remove(second)
    assert not queue.remove(second)
    assert [queue.pop() for _ in range(3)] == [first, third, 0]


def test_the_pinned_are_passed_over(cleaned: Cleaned) -> None:
    first, second = cleaned.seal_one(), cleaned.seal_one()
    cleaned.log.table.pin(first)
    assert not cleaned.log.eviction_queue.remove(first)
    assert cleaned.log.eviction_queue.oldest()[0] == second
    assert in_line(cleaned) == 1


def test_the_next_worker_lines_them_up_by_age(cleaned: Cleaned) -> None:
    segments = [cleaned.seal_one() for _ in range(3)]
    cleaned.log.eviction_queue.add(segments[0])
    after = Cleaned(cleaned.memory)
    assert [after.log.eviction_queue.pop() for _ in range(4)] == [*segments, 0]
