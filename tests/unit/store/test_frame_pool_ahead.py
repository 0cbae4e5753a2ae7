"""Frames whose memory a feeder makes: the reserve, its refill, and being short of memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuseswap.store.frame_pool import CLEANER_RESERVE, NO_FRAME, FramePool
from fuseswap.store.geometry import Geometry
from fuseswap.store.region import Region
from fuseswap.units import MIB
from tests.support.fake_feeder import FakeFeeder
from tests.support.memory_stores import SharedMemory

COUNT = 24
READY = 4


@pytest.fixture
def arena(make_memory: Callable[[Geometry], SharedMemory]) -> Region:
    return make_memory(Geometry(512, COUNT + 1, COUNT)).attach().arena


@pytest.fixture
def feeder() -> FakeFeeder:
    return FakeFeeder()


@pytest.fixture
def frames(arena: Region, feeder: FakeFeeder) -> FramePool:
    """A pool with its reserve."""
    pool = FramePool(arena, COUNT, feeder, READY)
    pool.reserve(READY)
    feeder.deliver()
    return pool


def test_the_reserve_is_ordered_once_and_within_the_limit(
    arena: Region, feeder: FakeFeeder
) -> None:
    frames = FramePool(arena, COUNT, feeder, READY)
    frames.set_limit(3)
    frames.reserve(READY)
    assert (len(feeder.orders), frames.held, frames.warm) == (3, 3, 0)
    feeder.deliver()
    assert (frames.warm, arena.allocated_bytes()) == (3, 3 * MIB)


def test_taking_a_frame_makes_no_memory_and_orders_another(
    frames: FramePool, feeder: FakeFeeder, arena: Region
) -> None:
    before = arena.allocated_bytes()
    assert frames.take() != NO_FRAME
    assert arena.allocated_bytes() == before
    assert (frames.warm, len(feeder.orders), frames.exhausted) == (READY - 1, 1, False)
    feeder.deliver()
    assert (frames.warm, frames.made) == (READY, READY + 1)


def test_stores_are_short_where_only_the_cleaner_s_frames_are_ready(frames: FramePool) -> None:
    while frames.take() != NO_FRAME:
        pass
    assert (frames.warm, frames.is_short, frames.exhausted) == (CLEANER_RESERVE, True, True)
    assert frames.available > 0, "the limit would allow it"
    assert frames.take(cleaning=True) != NO_FRAME
    assert frames.take(cleaning=True) == NO_FRAME


@pytest.mark.parametrize(("ready", "kept"), [(20, 8), (16, 8), (10, 5), (6, 3), (4, 2)])
def test_while_others_are_poor_frames_that_come_back_are_theirs(
    frames: FramePool, feeder: FakeFeeder, arena: Region, ready: int, kept: int
) -> None:
    frames.set_ready(ready)
    feeder.deliver()
    taken = [frames.take() for _ in range(ready - 1)]
    assert frames.take() == NO_FRAME
    assert (frames.is_short, frames.is_spent) == (True, False)
    feeder.is_poor = feeder.is_spent = True
    assert (frames.is_short, frames.is_spent) == (True, True)
    for frame in taken:
        frames.give_back(frame)
    assert (frames.warm, frames.is_spent) == (kept + 1, False), "one for a store that waits"
    frames.give_back(frames.take(cleaning=True))
    assert frames.take() != NO_FRAME
    assert frames.take() == NO_FRAME, "the rest may have to be given to others"
    assert frames.take(cleaning=True) != NO_FRAME


def test_a_delivery_ends_the_shortage(frames: FramePool, feeder: FakeFeeder) -> None:
    while frames.take() != NO_FRAME:
        pass
    feeder.deliver(1)
    assert (frames.is_short, frames.exhausted) == (False, False)
    assert frames.take() != NO_FRAME


def test_a_frame_that_comes_back_ends_the_shortage_too(frames: FramePool) -> None:
    taken = []
    while (frame := frames.take()) != NO_FRAME:
        taken.append(frame)
    frames.give_back(taken[0])
    assert not frames.exhausted
    assert frames.take() == taken[0]


def test_an_order_that_fails_holds_no_memory_and_is_given_again(
    frames: FramePool, feeder: FakeFeeder, arena: Region
) -> None:
    frames.take()
    before = arena.allocated_bytes()
    feeder.deliver(1, made=False)
    assert (arena.allocated_bytes(), frames.held) == (before, READY)
    frames.reserve(READY)
    feeder.deliver()
    assert frames.warm == READY


def test_at_the_limit_it_is_the_limit_and_not_memory(frames: FramePool) -> None:
    frames.set_limit(READY)
    while frames.take() != NO_FRAME:
        pass
    assert (frames.is_short, frames.exhausted, frames.available) == (False, True, 0)


def test_what_was_ordered_under_a_higher_limit_is_returned(
    frames: FramePool, feeder: FakeFeeder, arena: Region
) -> None:
    for _ in range(2):
        frames.take()
    frames.set_limit(2)
    feeder.deliver()
    assert (frames.warm, frames.held, arena.allocated_bytes()) == (0, 2, 2 * MIB)


def test_ready_frames_are_given_to_others_but_for_some(frames: FramePool, arena: Region) -> None:
    given = 0
    while frames.give_to_others(1):
        given += 1
    assert (given, frames.warm, frames.given_back) == (READY - 1, 1, READY - 1)
    assert arena.allocated_bytes() == MIB


def test_ready_frames_are_not_counted_as_used(frames: FramePool) -> None:
    assert (frames.held, frames.used) == (READY, 0)
    frames.take()
    assert (frames.held, frames.used) == (READY + 1, 1)


def test_a_later_worker_has_a_part_of_the_reserve_at_once(frames: FramePool, arena: Region) -> None:
    used = {frames.take(), frames.take()}
    again = FramePool(arena, COUNT, FakeFeeder(), 4 * READY)
    again.adopt(used)
    assert (again.in_use, again.warm) == (2, READY - 2)
    assert arena.allocated_bytes() == READY * MIB
    small = FramePool(arena, COUNT, FakeFeeder(), READY)
    small.adopt(used)
    assert (small.warm, arena.allocated_bytes()) == (READY // 2, (2 + READY // 2) * MIB)


def test_frames_of_a_former_worker_are_mapped_and_one_freed_meanwhile_takes_no_memory(
    frames: FramePool, arena: Region
) -> None:
    used = {frames.take(), frames.take()}
    feeder = FakeFeeder()
    again = FramePool(arena, COUNT, feeder, 0)
    again.adopt(used)
    again.map_some()
    assert {order[1] >> 20 for order in feeder.orders} == used
    again.limit = 1  # so that one that is freed does not stay warm
    again.give_back(min(used))
    feeder.deliver()
    assert arena.allocated_bytes() == MIB
    again.map_some()
    assert not feeder.orders


@pytest.mark.parametrize("ready", range(4, 20))
@pytest.mark.parametrize("cleaners", [1, 2, 3])
def test_stores_and_feeder_never_wait_for_each_other(
    arena: Region, feeder: FakeFeeder, ready: int, cleaners: int
) -> None:
    """The feeder refills up to `kept_ready` whatever others have; stores leave the cleaner's."""
    pool = FramePool(arena, COUNT, feeder, ready)
    pool.set_cleaner_reserve(cleaners)
    assert pool.kept_ready > cleaners
