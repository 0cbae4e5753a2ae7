"""When ``fuseswap top`` looks, and that it never waits for ever."""

from __future__ import annotations

import itertools
import os

import pytest

from fuseswap.cli import watching


class Clock:
    """Goes on with every look at it, as a real one does."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        self.now_s += 1e-6
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(watching, "time", found)
    return found


def test_looks_keep_their_distance_whatever_they_take(clock: Clock) -> None:
    began_s = clock.now_s
    for number, delay_s in enumerate(itertools.islice(watching.ticks(2.0), 5), start=1):
        clock.now_s += delay_s
        assert clock.now_s == pytest.approx(began_s + 2.0 * number, abs=1e-3)
        clock.now_s += 0.7


def test_after_one_that_was_missed_a_whole_interval_passes(clock: Clock) -> None:
    ticks = watching.ticks(2.0)
    next(ticks)
    clock.now_s += 60
    assert next(ticks) == pytest.approx(2.0, abs=1e-3)
    clock.now_s += 2.0
    assert next(ticks) == pytest.approx(2.0, abs=1e-3)


def test_a_delay_is_never_negative(clock: Clock) -> None:
    ticks = watching.ticks(2.0)
    for late_s in (1.999998, 1.999999, 2.0, 2.000001, 2.000002):
        delay_s = next(ticks)
        assert delay_s >= 0
        clock.now_s += delay_s + late_s


def test_time_that_is_over_already_is_not_waited_for() -> None:
    ours, theirs = os.pipe()
    watching.wait([ours], -1e-9)
    os.close(ours)
    os.close(theirs)
