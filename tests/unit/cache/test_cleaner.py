"""The cleaner: what it chooses, and its steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuseswap.cache import cleaner as cleaner_module
from fuseswap.cache.cleaner import STEP_OBJECTS
from fuseswap.cache.state import SEGMENT_BYTES, Geometry
from fuseswap.errors import CorruptData
from tests.cleaned import ROOMY, Cleaned
from tests.invariants import StoredObject
from tests.stores import SharedMemory


@pytest.fixture
def cleaned(make_memory: Callable[[Geometry], SharedMemory]) -> Cleaned:
    return Cleaned(make_memory(ROOMY))


# -- which one -------------------------------------------------------------------------


def test_nothing_is_chosen_where_nothing_is(cleaned: Cleaned) -> None:
    assert cleaned.cleaner.choose() == 0
    assert not cleaned.cleaner.step()
    assert not cleaned.cleaner.busy


def test_the_sparser_of_two_segments(cleaned: Cleaned) -> None:
    first, second = cleaned.seal_one(), cleaned.seal_one()
    cleaned.thin_out(first, 0.8)
    cleaned.thin_out(second, 0.2)
    assert cleaned.cleaner.choose() == second


def test_the_older_of_two_that_are_as_sparse(cleaned: Cleaned) -> None:
    segments = [cleaned.seal_one() for _ in range(3)]
    for segment in segments:
        cleaned.thin_out(segment, 0.5)
    assert cleaned.cleaner.choose() == segments[0]


def test_benefit_over_cost(cleaned: Cleaned) -> None:
    shares = (0.7, 0.9, 0.45, 0.6, 0.95)
    segments = [cleaned.seal_one() for _ in shares]
    for segment, share in zip(segments, shares, strict=True):
        cleaned.thin_out(segment, share)
    log = cleaned.log

    def score(segment: int) -> float:
        u = log.table.live_bytes[segment] / SEGMENT_BYTES
        return (1 - u) * (log.table.newest_sequence - log.table.sequence_of(segment) + 1) / u

    assert cleaned.cleaner.choose() == max(segments, key=score) == segments[2]


def test_the_open_segment_is_never_chosen(cleaned: Cleaned) -> None:
    for page in range(100):
        cleaned.store(page)
    for page in range(99):
        cleaned.discard(page)
    assert cleaned.cleaner.choose() == 0


def test_more_than_98_percent_live_is_left_alone(cleaned: Cleaned) -> None:
    segment = cleaned.seal_one()
    found = cleaned.pages_of(segment)
    while cleaned.log.table.live_bytes[segment] / SEGMENT_BYTES > 0.98:
        assert cleaned.cleaner.choose() == 0
        cleaned.discard(found.pop())
    assert cleaned.cleaner.choose() == segment
    assert cleaned.cleaner.choose(max_live_share=0.9) == 0


def test_a_window_of_candidates_moves_on(cleaned: Cleaned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaner_module, "WINDOW", 1)
    segments = [cleaned.seal_one() for _ in range(3)]
    for segment in segments:
        cleaned.thin_out(segment, 0.5)
    assert [cleaned.cleaner.choose() for _ in range(6)] == segments * 2


# -- steps -----------------------------------------------------------------------------


def test_sparse_segments_become_one(cleaned: Cleaned) -> None:
    segments = [cleaned.seal_one() for _ in range(4)]
    for segment in segments:
        cleaned.thin_out(segment, 0.2)
    before = len(cleaned.expected)
    cleaned.clean_up()
    assert cleaned.log.frames.in_use == 1
    now = cleaned.cleaner.statistics()
    assert (now.segments_cleaned, now.objects_copied, now.given_up) == (4, before, 0)
    assert now.bytes_copied == cleaned.log.live_in_frames
    cleaned.check()


def test_a_step_copies_a_bounded_number_of_objects(cleaned: Cleaned) -> None:
    segment = cleaned.seal_one()
    cleaned.thin_out(segment, 0.9)
    copied = [0]
    while cleaned.log.table.live[segment]:
        assert cleaned.cleaner.step()
        copied.append(cleaned.cleaner.statistics().objects_copied)
        assert copied[-1] - copied[-2] <= STEP_OBJECTS
        assert cleaned.cleaner.busy == (cleaned.log.table.live[segment] > 0)
        cleaned.check()
    assert len(copied) > 4


def test_the_bytes_of_a_segment_being_cleaned_do_not_change(cleaned: Cleaned) -> None:
    segment = cleaned.seal_one()
    cleaned.thin_out(segment, 0.5)
    view = cleaned.log.view(segment)
    before = bytes(view)
    cleaned.cleaner.step()
    assert bytes(view) == before
    view.release()


def test_a_worker_that_dies_between_two_steps_loses_nothing(cleaned: Cleaned) -> None:
    segment = cleaned.seal_one()
    cleaned.thin_out(segment, 0.9)
    for _ in range(4):
        cleaned.cleaner.step()
        again = Cleaned(cleaned.memory)
        again.expected = cleaned.expected
        again.check()
        cleaned = again


def test_a_corrupt_object_stays_corrupt_and_alone(cleaned: Cleaned) -> None:
    segment = cleaned.seal_one()
    cleaned.thin_out(segment, 0.3)
    bad = cleaned.pages_of(segment)[5]
    found = StoredObject.of(bad, cleaned.cache.slots.get(bad))
    arena = cleaned.memory.attach().arena.buffer
    arena[cleaned.log.table.bases[segment] + found.offset + 1000] ^= 1
    cleaned.clean_up()
    assert cleaned.log.table.live[segment] == 0
    with pytest.raises(CorruptData):
        cleaned.cache.load(bad)
    del cleaned.expected[bad]
    assert {page: cleaned.cache.load(page) for page in cleaned.expected} == cleaned.expected
