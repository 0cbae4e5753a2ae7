"""The feeder's thread: what it makes, what it leaves to others, and how it tells."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable

import pytest

from fuseswap.linux import syscalls
from fuseswap.store.frame_pool import FramePool
from fuseswap.store.memory_reserve import FeederThread
from fuseswap.store.region import Region
from fuseswap.units import MIB, PAGE_SIZE
from tests.support.feeders import Levels, Poor, region, running, wait


def test_what_is_ordered_is_made_and_taken_over_where_it_was_ordered() -> None:
    arena = region()
    answers: list[bool] = []
    threads: set[int] = set()

    def done(made: bool) -> None:
        answers.append(made)
        threads.add(threading.get_ident())

    with running(Levels()) as feeder:
        feeder.populate(arena, MIB, MIB, done)
        feeder.populate(arena, 0, PAGE_SIZE, done, can_wait=True)
        wait(feeder, answers, 2)
    assert answers == [True, True]
    assert threads == {threading.get_ident()}
    assert arena.allocated_bytes() == MIB + PAGE_SIZE


def test_a_cluster_for_which_a_store_waits_is_made_in_the_middle_of_a_frame() -> None:
    """A frame may take seconds where there is no memory, and a store is refused after one."""
    told: list[str] = []
    finished: list[bool] = []

    class Slow(Region):
        """While its first piece is made a store comes."""

        def populate(self, offset: int, length: int) -> None:
            if not told:
                told.append("a piece")
                feeder.populate(region(), 0, PAGE_SIZE, lambda made: tell("cluster", made))
            super().populate(offset, length)

    def tell(name: str, made: bool) -> None:
        told.append(name)
        finished.append(made)

    arena = region(Slow)
    with running(Levels()) as feeder:
        feeder.populate(arena, 0, MIB, lambda made: tell("frame", made))
        wait(feeder, finished, 2)
    assert told == ["a piece", "cluster", "frame"]
    assert finished == [True, True]
    assert arena.allocated_bytes() == MIB


def test_no_memory_is_an_answer() -> None:
    answers: list[bool] = []
    with running(Levels()) as feeder:
        feeder.populate(region(Poor), 0, MIB, answers.append)
        wait(feeder, answers, 1)
        assert feeder.failed == 1
    assert answers == [False]


def test_what_can_wait_is_left_while_memory_is_short_and_a_store_s_is_not() -> None:
    levels = Levels()
    levels.near = True
    answers: list[tuple[str, bool]] = []
    told: list[bool] = []

    def note(name: str, made: bool) -> None:
        answers.append((name, made))
        told.append(made)

    with running(levels) as feeder:
        feeder.populate(region(), 0, MIB, lambda made: note("index", made), can_wait=True)
        feeder.populate(region(), 0, MIB, lambda made: note("frame", made))
        wait(feeder, told, 1)
        assert answers == [("frame", True)]
        levels.near = False
        wait(feeder, told, 2)
    assert answers == [("frame", True), ("index", True)]


def test_no_frame_is_made_while_others_are_poor_however_few_are_ready() -> None:
    levels = Levels()
    levels.near = levels.poor = True
    answers: list[bool] = []
    cluster: list[bool] = []
    with running(levels) as feeder:
        feeder.populate(region(), 0, MIB, answers.append)
        feeder.populate(region(), 0, PAGE_SIZE, cluster.append)
        wait(feeder, cluster, 1)
        assert (feeder.is_spent, answers) == (True, [])
        levels.poor = False
        wait(feeder, answers, 1)
        assert (feeder.is_spent, answers) == (False, [True])


def test_below_min_others_come_first_while_enough_frames_are_ready() -> None:
    levels = Levels()
    levels.near = levels.reached = True
    level = [8]
    answers: list[bool] = []
    with running(levels) as feeder:
        feeder.ready_level = lambda: level[0]
        feeder.populate(region(), 0, MIB, answers.append)
        cluster: list[bool] = []
        feeder.populate(region(), 0, PAGE_SIZE, cluster.append)
        wait(feeder, cluster, 1)
        assert cluster == [True], "a store waits for that"
        assert answers == []
        level[0] = 7
        wait(feeder, answers, 1)
    assert answers == [True]


@pytest.mark.parametrize("near", [True, False])
def test_chores_are_done_in_its_thread(near: bool) -> None:
    levels = Levels()
    levels.near = near
    done = threading.Event()
    found: list[int] = []
    feeder = FeederThread(levels, (lambda: found.append(threading.get_ident()), done.set))
    feeder.start()
    assert done.wait(10)
    feeder.close()
    assert set(found).isdisjoint({threading.get_ident()})
    assert feeder.is_short == near


def test_an_errand_is_done_when_it_is_asked_for() -> None:
    """At once, though the next chores are a second off."""
    done = threading.Event()
    chores = threading.Event()
    feeder = FeederThread(Levels(), (chores.set,), done.set)
    feeder.start()
    assert chores.wait(10)
    assert not done.is_set()
    feeder.ask()
    assert done.wait(10)
    feeder.close()


@pytest.mark.parametrize("kept", [8, 3])
def test_what_is_kept_for_the_poor_does_not_count_as_ready(kept: int) -> None:
    levels = Levels()
    levels.near = levels.poor = levels.reached = True
    feeder = FeederThread(levels)
    feeder.is_short = feeder.is_poor = True
    feeder.kept_level = lambda: kept
    spares = []
    for ready in (2 * kept - 1, 2 * kept):
        feeder.ready_level = lambda found=ready: found  # type: ignore[misc]
        spares.append(feeder._spares())
    assert spares == [False, True]
    os.close(feeder.eventfd)


def test_others_may_be_left_bare_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the OOM killer is asked; a machine would crawl on without it."""
    levels = Levels()
    levels.near = levels.poor = True
    seconds = [100.0]
    swap = [100 * MIB]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(syscalls, "free_swap_bytes", lambda: swap[0])
    feeder = FeederThread(levels)

    def spent_after(more_s: float) -> bool:
        seconds[0] += more_s
        feeder.is_short = levels.near
        feeder._look_at_others()
        return feeder.is_spent

    assert [spent_after(more_s) for more_s in (0, 9.0, 2.0)] == [True, True, False]
    levels.bare = True
    assert spent_after(0.1)
    levels.poor = levels.bare = False
    assert not spent_after(1.0)
    levels.poor = True
    assert not spent_after(0.1), "for a moment only they were not"
    swap[0] += 9 * MIB
    assert spent_after(0.1), "a process has ended: its memory is for others"
    assert [spent_after(more_s) for more_s in (4.0, 2.0)] == [True, False]
    levels.poor = False
    spent_after(3.0)
    levels.poor = True
    assert spent_after(0.1), "from the beginning"
    os.close(feeder.eventfd)


@pytest.mark.parametrize("error", [OSError(errno.ENOMEM, "no memory"), ValueError("a mistake")])
def test_a_chore_that_fails_does_not_end_the_feeder(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def poor() -> None:
        raise error

    answers: list[bool] = []
    feeder = FeederThread(Levels(), (poor,))
    feeder.start()
    try:
        feeder.populate(region(), 0, MIB, answers.append)
        wait(feeder, answers, 1)
    finally:
        feeder.close()
    assert answers == [True]
    assert ("a mistake" in caplog.text) is isinstance(error, ValueError)


class Slow(Region):
    """A region whose memory comes when a test says so."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def populate(self, offset: int, length: int) -> None:
        self.begun.set()
        assert self.go_on.wait(10)
        super().populate(offset, length)


def test_who_ordered_and_is_no_more_is_not_told() -> None:
    old: list[bool] = []
    new: list[bool] = []
    slow = region(Slow)
    assert isinstance(slow, Slow)
    with running(Levels()) as feeder:
        feeder.populate(slow, 0, MIB, old.append)
        assert slow.begun.wait(10)
        for can_wait in (False, True):
            feeder.populate(slow, MIB, MIB, old.append, can_wait=can_wait)
        feeder.forget()
        slow.go_on.set()
        feeder.populate(region(), 0, MIB, new.append)
        wait(feeder, new, 1)
    assert (old, new) == ([], [True])
    assert slow.allocated_bytes() == MIB, "what was not begun is not made"


def test_a_frame_of_before_is_not_given_back_where_another_pool_has_it_in_use() -> None:
    """A worker paused, and told to go on: same feeder, another pool of the same frames."""
    arena = region()
    levels = Levels()
    levels.near = True
    told: list[bool] = []
    with running(levels) as feeder:
        before = FramePool(arena, 8, feeder, 1)
        before.adopt({0})
        before.map_some()  # can wait
        before.give_back(0)
        before.trim(0)
        feeder.forget()
        pool = FramePool(arena, 8, feeder, 4)
        pool.adopt(set())
        while pool.warm < 4:
            pool.reserve(4)
            feeder.collect()
        frames = [pool.take(cleaning=True) for _ in range(4)]
        assert 0 in frames
        for frame in frames:
            arena.buffer[frame * MIB] = 1
        levels.near = False
        feeder.populate(region(), 0, MIB, told.append, can_wait=True)
        wait(feeder, told, 1)
    assert all(arena.buffer[frame * MIB] for frame in frames)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_a_feeder_that_waits_for_memory_itself_is_seen_to() -> None:
    slow = region(Slow)
    assert isinstance(slow, Slow)
    told: list[bool] = []
    with running(Levels()) as feeder:
        feeder.populate(slow, 0, MIB, told.append)
        assert slow.begun.wait(10)
        assert not feeder.is_stuck, "not at once"
        until(lambda: feeder.is_stuck)
        assert not feeder.is_short, "seen before it began"
        slow.go_on.set()
        wait(feeder, told, 1)
        until(lambda: not feeder.is_stuck)
