"""Frames: limits, warm and cold, and memory that is really returned."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from fuseswap.store.frame_pool import CLEANER_RESERVE, NO_FRAME, WARM_LIMIT, FramePool
from fuseswap.store.geometry import Geometry
from fuseswap.store.region import Region
from fuseswap.units import MIB
from tests.support.memory_stores import SharedMemory

COUNT = 24


@pytest.fixture
def arena(make_memory: Callable[[Geometry], SharedMemory]) -> Region:
    return make_memory(Geometry(512, COUNT + 1, COUNT)).attach().arena


@pytest.fixture
def frames(arena: Region) -> FramePool:
    return FramePool(arena, COUNT)


def take_all(frames: FramePool) -> list[int]:
    """All frames there are: those of stores, then the cleaner's."""
    taken = []
    while (frame := frames.take()) != NO_FRAME:
        taken.append(frame)
    while (frame := frames.take(cleaning=True)) != NO_FRAME:
        taken.append(frame)
    return taken


class NoMemory(Region):
    """A region that gets half of what it asks for, and then no more."""

    def populate(self, offset: int, length: int) -> None:
        super().populate(offset, length // 2)
        raise OSError("no memory")


def test_a_frame_is_there_when_taken(frames: FramePool, arena: Region) -> None:
    assert arena.allocated_bytes() == 0
    assert frames.take() == 0
    assert arena.allocated_bytes() == MIB
    assert (frames.in_use, frames.warm, frames.held) == (1, 0, 1)


def test_no_more_frames_than_the_limit(frames: FramePool) -> None:
    frames.set_limit(3)
    assert len(set(take_all(frames))) == 3
    assert (frames.in_use, frames.available) == (3, 0)


def test_what_is_granted_above_the_limit_is_the_cleaner_s_until_there_is_room_below(
    frames: FramePool,
) -> None:
    frames.set_limit(3)
    taken = take_all(frames)
    assert frames.take(cleaning=True) == NO_FRAME
    frames.grant()
    assert frames.take() == NO_FRAME
    above = frames.take(cleaning=True)
    assert (above != NO_FRAME, frames.in_use, frames.has_spare) == (True, 4, False)
    frames.give_back(above)
    assert (frames.in_use, frames.has_spare) == (3, True)
    frames.give_back(taken[0])
    assert frames.take(cleaning=True) != NO_FRAME
    assert (frames.in_use, frames.has_spare) == (3, False)


def test_no_more_frames_than_there_are(frames: FramePool) -> None:
    frames.set_limit(1000)
    assert frames.limit == COUNT
    assert len(set(take_all(frames))) == COUNT
    assert frames.in_use == COUNT


@pytest.mark.parametrize("reserve", [0, 1, 2])
def test_the_last_frames_are_for_cleaning(frames: FramePool, reserve: int) -> None:
    frames.cleaner_reserve = reserve
    frames.set_limit(5)
    assert frames.available == 5 - reserve
    taken = [frames.take() for _ in range(5 - reserve)]
    assert NO_FRAME not in taken
    assert (frames.available, frames.exhausted) == (0, True)
    assert frames.take() == NO_FRAME
    assert NO_FRAME not in [frames.take(cleaning=True) for _ in range(reserve)]
    assert frames.take(cleaning=True) == NO_FRAME
    for frame in taken[: reserve + 1]:
        assert frames.exhausted
        frames.give_back(frame)
    assert (frames.available, frames.exhausted) == (1, False)


def test_exhausted_follows_the_limit(frames: FramePool) -> None:
    frames.set_limit(2)
    frames.take()
    found = [frames.exhausted]
    for limit in (3, 1):
        frames.set_limit(limit)
        found.append(frames.exhausted)
    assert found == [True, False, True]


def test_a_freed_frame_stays_warm_and_is_taken_first(frames: FramePool, arena: Region) -> None:
    first, _ = frames.take(), frames.take()
    frames.give_back(first)
    assert (frames.in_use, frames.warm, arena.allocated_bytes()) == (1, 1, 2 * MIB)
    assert frames.take() == first
    assert arena.allocated_bytes() == 2 * MIB


def test_only_so_many_frames_stay_warm(frames: FramePool, arena: Region) -> None:
    for frame in take_all(frames):
        frames.give_back(frame)
    assert frames.warm == WARM_LIMIT
    assert arena.allocated_bytes() == WARM_LIMIT * MIB
    assert frames.available == COUNT - CLEANER_RESERVE


def test_trim_returns_memory_and_the_frames_can_be_taken_again(
    frames: FramePool, arena: Region
) -> None:
    for frame in [frames.take() for _ in range(5)]:
        frames.give_back(frame)
    frames.trim(2)
    assert (frames.warm, arena.allocated_bytes()) == (2, 2 * MIB)
    frames.trim(0)
    assert arena.allocated_bytes() == 0
    assert len(set(take_all(frames))) == COUNT


def test_reserve_makes_frames_warm_within_the_limit(frames: FramePool, arena: Region) -> None:
    frames.set_limit(4)
    frames.take()
    frames.reserve(2)
    assert (frames.warm, arena.allocated_bytes()) == (2, 3 * MIB)
    frames.reserve(2)
    assert frames.warm == 2
    frames.reserve(100)
    assert (frames.held, arena.allocated_bytes()) == (4, 4 * MIB)


def test_reserve_ends_where_there_are_no_more_frames(frames: FramePool) -> None:
    frames.reserve(100)
    assert frames.warm == COUNT


def test_a_spare_one_is_one_that_there_is_memory_for(
    frames: FramePool, arena: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(offset: int, length: int) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    frames.set_limit(2)
    assert frames.ensure_spare()
    assert frames.warm == 1
    monkeypatch.setattr(arena, "populate", none)
    assert frames.ensure_spare()
    frames.take(cleaning=True)
    assert frames.has_spare
    assert not frames.ensure_spare()
    assert frames.take(cleaning=True) == NO_FRAME


def test_lowering_the_limit_returns_free_frames_and_keeps_used_ones(
    frames: FramePool, arena: Region
) -> None:
    taken = [frames.take() for _ in range(4)]
    frames.give_back(taken.pop())
    frames.set_limit(2)
    assert (frames.in_use, frames.warm, arena.allocated_bytes()) == (3, 0, 3 * MIB)
    assert (frames.take(), frames.available) == (NO_FRAME, 0)
    frames.give_back(taken.pop())  # above the limit: not kept warm
    assert (frames.in_use, frames.warm) == (2, 0)
    frames.give_back(taken.pop())
    assert (frames.in_use, frames.warm, frames.take()) == (1, 1, NO_FRAME)
    assert frames.take(cleaning=True) != NO_FRAME


def test_raising_the_limit_lets_takes_go_on(frames: FramePool) -> None:
    frames.set_limit(2)
    frames.take()
    assert frames.take() == NO_FRAME
    frames.set_limit(3)
    assert frames.take() != NO_FRAME


def test_adopt_keeps_used_frames_and_returns_all_else(frames: FramePool, arena: Region) -> None:
    for _ in range(6):
        frames.take()
    arena.buffer[2 * MIB : 2 * MIB + 4] = b"data"
    again = FramePool(arena, COUNT)
    again.adopt({2, 4})
    assert (again.in_use, again.warm, arena.allocated_bytes()) == (2, 0, 2 * MIB)
    assert bytes(arena.buffer[2 * MIB : 2 * MIB + 4]) == b"data"
    assert again.available == COUNT - 2 - CLEANER_RESERVE
    assert sorted(take_all(again)) == sorted(set(range(COUNT)) - {2, 4})


def test_adopt_of_nothing_returns_everything(frames: FramePool, arena: Region) -> None:
    frames.reserve(3)
    again = FramePool(arena, COUNT)
    again.adopt(set())
    assert (again.held, arena.allocated_bytes(), again.available) == (
        0,
        0,
        COUNT - CLEANER_RESERVE,
    )


def test_no_memory_is_no_frame_and_holds_nothing(arena: Region) -> None:
    poor = NoMemory(arena.fd)
    frames = FramePool(poor, COUNT)
    assert frames.take() == NO_FRAME
    frames.reserve(2)
    assert (frames.in_use, frames.warm, poor.allocated_bytes()) == (0, 0, 0)
    assert frames.available == COUNT - CLEANER_RESERVE
