"""Fixtures: a worker with memory for raw backends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.chained_backends import SLOTS, Chained
from tests.support.memory_stores import SharedMemory
from tests.support.raw_memories import RawSlots


@pytest.fixture
def raws() -> Iterator[dict[str, RawSlots]]:
    raws = {name: RawSlots(SLOTS) for name in ("raw0", "raw1")}
    yield raws
    for raw in raws.values():
        raw.close()


@pytest.fixture
def worker(memory: SharedMemory, raws: dict[str, RawSlots]) -> Chained:
    return Chained(memory, raws)
