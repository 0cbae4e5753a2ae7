"""Fixtures of the tests of tiers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuseswap.store.geometry import Geometry
from tests.support.memory_stores import SharedMemory
from tests.support.moving_segments import Moved
from tests.support.tiered_devices import TIERED


@pytest.fixture
def moved(make_memory: Callable[[Geometry], SharedMemory]) -> Moved:
    return Moved(make_memory(TIERED))


@pytest.fixture
def tiered_memory(make_memory: Callable[[Geometry], SharedMemory]) -> SharedMemory:
    return make_memory(TIERED)
