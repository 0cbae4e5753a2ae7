"""A segment that is read back whole: it may be elsewhere by then."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio

from fuseswap.reclaim.segment_reader import SegmentReader
from fuseswap.store.geometry import Geometry
from fuseswap.tiers.tier_reader import TierReader
from fuseswap.units import Location, SegmentRef
from tests.support.cleaned_cache import ROOMY, Cleaned
from tests.support.memory_stores import SharedMemory


@pytest.mark.parametrize("moves", [False, True])
async def test_only_where_it_still_is_there_it_is_set_aside(
    make_memory: Callable[[Geometry], SharedMemory], moves: bool
) -> None:
    log = Cleaned(make_memory(ROOMY))
    segment = log.seal_one()
    table = log.log.table
    log.log.relocate(segment, Location(0, 0))

    class Failing:
        def begin_read(self, *arguments: Any, **more: Any) -> None:
            if moves:
                log.log.relocate(segment, Location(0, 1))
            done = arguments[4]
            failure = OSError(errno.EIO, "the device failed")
            trio.lowlevel.current_trio_token().run_sync_soon(done, failure)

    reader = SegmentReader(log.log, cast(TierReader, Failing()))
    assert await reader.read(segment) is None
    assert table.is_pinned(segment) is not moves


async def test_what_is_taken_back_is_that_segment_and_no_later_one(
    make_memory: Callable[[Geometry], SharedMemory],
) -> None:
    log = Cleaned(make_memory(ROOMY))
    segment = log.seal_one()
    table = log.log.table
    reader = SegmentReader(log.log, cast(TierReader, None))
    table.pin(segment)
    reader._set_aside[SegmentRef(segment, table.sequence_of(segment) + 7)] = 0.0
    reader.take_back()
    assert table.is_pinned(segment), "something in it is corrupt"
    reader._set_aside[table.ref(segment)] = 0.0
    reader.take_back()
    assert not table.is_pinned(segment)
