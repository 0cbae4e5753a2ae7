"""Fixtures of the tests of tiers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuseswap.cache.state import Geometry
from tests.stores import SharedMemory
from tests.tiered import TIERED
from tests.unit.tiers.moved import Moved


@pytest.fixture
def moved(make_memory: Callable[[Geometry], SharedMemory]) -> Moved:
    return Moved(make_memory(TIERED))
