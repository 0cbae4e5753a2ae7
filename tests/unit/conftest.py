"""Fixtures: a small store over anonymous memory, and the layers on top of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from fuseswap_examples.cost_age import CostAge
from fuseswap_examples.largest_first import LargestFirst
from fuseswap_examples.size_aware import SizeAware

from fuseswap.filesystem.device import Device
from fuseswap.filesystem.plugged import Plugged
from fuseswap.filesystem.tree import Tree
from fuseswap.reclaim.dictionary_policy import DEFAULT_SCHEDULE, TrainingSchedule
from fuseswap.store.geometry import Geometry
from tests.support.fake_tier import FakePlaceFile, FakeTier
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import SMALL, FrontedCache, SharedMemory
from tests.support.plugged import a_policy, health_of
from tests.support.tiered_devices import EXTENTS, TIERED, Tiered


@pytest.fixture
def make_memory() -> Iterator[Callable[[Geometry], SharedMemory]]:
    """Shared memory of any geometry."""
    made: list[SharedMemory] = []

    def make(geometry: Geometry) -> SharedMemory:
        made.append(SharedMemory(geometry))
        return made[-1]

    yield make
    for memory in made:
        memory.close()


@pytest.fixture
def memory(make_memory: Callable[[Geometry], SharedMemory]) -> SharedMemory:
    return make_memory(SMALL)


@pytest.fixture
def cache(memory: SharedMemory) -> Iterator[FrontedCache]:
    """A cache that is sound after the test too; tests that damage one attach their own."""
    cache = memory.attach_cache()
    yield cache
    check_invariants(cache)


@pytest.fixture
def device(memory: SharedMemory) -> Device:
    return Device(memory.attach())


@pytest.fixture
def roomy_device(make_memory: Callable[[Geometry], SharedMemory]) -> Device:
    """One with room for the least pool limit a person may set, and all that can be set."""
    memory = make_memory(Geometry(1280, 17, 16))
    policies = {"largest": LargestFirst(), "cost_age": CostAge(), "size_aware": SizeAware()}
    plugged = Plugged(policies=tuple(a_policy(one, name) for name, one in policies.items()))
    return Device(memory.attach(), place_file=FakePlaceFile(1280), plugged=plugged)


@pytest.fixture
def tree(device: Device) -> Tree:
    return Tree(device)


@pytest.fixture
def tier() -> FakeTier:
    return FakeTier(EXTENTS)


@pytest.fixture
def schedule() -> TrainingSchedule:
    """When dictionaries are trained; a file of tests may have another."""
    return DEFAULT_SCHEDULE


@pytest.fixture
def tiered(
    make_memory: Callable[[Geometry], SharedMemory], tier: FakeTier, schedule: TrainingSchedule
) -> Tiered:
    plugged = Plugged(health=(health_of("policy", "of_a_package"),))
    return Tiered(make_memory(TIERED), tier, schedule=schedule, plugged=plugged)


@pytest.fixture
def places() -> FakePlaceFile:
    return FakePlaceFile(TIERED.page_count)


@pytest.fixture
def placed(make_memory: Callable[[Geometry], SharedMemory], places: FakePlaceFile) -> Tiered:
    """The same with the in-place layout."""
    return Tiered(make_memory(TIERED), places)


@pytest.fixture
def tierless(make_memory: Callable[[Geometry], SharedMemory], schedule: TrainingSchedule) -> Tiered:
    """The same without a tier: only the cleaner makes room."""
    return Tiered(make_memory(TIERED), None, schedule=schedule)
