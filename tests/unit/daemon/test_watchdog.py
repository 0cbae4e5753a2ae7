"""The watchdog: a heart that stands still while requests wait."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest

from fuseswap.daemon.watchdog import HEARTBEAT_AT, Watchdog
from fuseswap.store import superblock

PATIENCE = 3


class Scene:
    """A header, and a pipe for the kernel's queue."""

    def __init__(self) -> None:
        self.header = mmap.mmap(-1, mmap.PAGESIZE)
        self.queue, self._requests = os.pipe()
        self.beats = 0

    def beat(self) -> None:
        self.beats += 1
        struct.pack_into("<Q", self.header, HEARTBEAT_AT, self.beats)

    def request(self) -> None:
        os.write(self._requests, b"r")

    def answer(self) -> None:
        os.read(self.queue, 1)

    def close(self) -> None:
        os.close(self.queue)
        os.close(self._requests)


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.close()


def looks_until_overdue(watchdog: Watchdog, most: int = 100) -> int:
    """How many looks it takes; ``most`` where it never is."""
    return next((look for look in range(1, most) if watchdog.is_overdue()), most)


def test_both_sides_mean_the_same_place() -> None:
    """The supervisor does not import the cache."""
    assert HEARTBEAT_AT == superblock.HEARTBEAT_AT


def test_a_beating_heart_is_never_overdue(scene: Scene) -> None:
    watchdog = Watchdog(scene.header, scene.queue, PATIENCE)
    scene.request()
    for _ in range(10 * PATIENCE):
        for _ in range(PATIENCE - 1):
            assert not watchdog.is_overdue()
        scene.beat()
        assert not watchdog.is_overdue()


def test_without_a_beat_requests_wait_so_many_looks(scene: Scene) -> None:
    watchdog = Watchdog(scene.header, scene.queue, PATIENCE)
    scene.request()
    assert looks_until_overdue(watchdog) == PATIENCE
    assert looks_until_overdue(watchdog) == PATIENCE  # and again, if it is not replaced


def test_one_that_nobody_asks_has_longer(scene: Scene) -> None:
    """A request may have been taken and not answered: that cannot be seen."""
    watchdog = Watchdog(scene.header, scene.queue, PATIENCE)
    assert looks_until_overdue(watchdog) == 3 * PATIENCE
    scene.request()
    watchdog.is_overdue()
    scene.answer()
    assert not any(watchdog.is_overdue() for _ in range(PATIENCE))


def test_the_next_worker_starts_afresh(scene: Scene) -> None:
    watchdog = Watchdog(scene.header, scene.queue, PATIENCE)
    scene.request()
    for _ in range(PATIENCE - 1):
        assert not watchdog.is_overdue()
    watchdog.begin()
    assert looks_until_overdue(watchdog) == PATIENCE


def test_without_patience_it_never_is(scene: Scene) -> None:
    scene.request()
    assert looks_until_overdue(Watchdog(scene.header, scene.queue, 0)) == 100
