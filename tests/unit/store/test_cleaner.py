"""The cleaner: its steps, where the segment is its own choice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuseswap.errors import CorruptData
from fuseswap.store.geometry import Geometry
from fuseswap.store.plans import STEP_OBJECTS
from fuseswap.units import PageNumber
from tests.support.cleaned_cache import ROOMY, Cleaned
from tests.support.log_invariants import StoredObject
from tests.support.memory_stores import SharedMemory


@pytest.fixture
def cleaned(make_memory: Callable[[Geometry], SharedMemory]) -> Cleaned:
    return Cleaned(make_memory(ROOMY))


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
    found = StoredObject.of(bad, cleaned.cache.slots.get(PageNumber(bad)))
    arena = cleaned.memory.attach().arena.buffer
    arena[cleaned.log.table.bases[segment] + found.offset + 1000] ^= 1
    cleaned.clean_up()
    assert cleaned.log.table.live[segment] == 0
    with pytest.raises(CorruptData):
        cleaned.cache.load(bad)
    del cleaned.expected[bad]
    assert {page: cleaned.cache.load(page) for page in cleaned.expected} == cleaned.expected
