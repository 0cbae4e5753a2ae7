"""Health of a plugin: logged once a sort, counted always, set aside in the end."""

from __future__ import annotations

import logging

import pytest

from fuseswap.counting import numbers_of
from fuseswap.plugins.health import MOST_FAULTS, MOST_STALLS, STALL_S
from tests.support.plugged import health_of


def test_the_first_of_each_sort_is_logged_with_the_package(
    caplog: pytest.LogCaptureFixture,
) -> None:
    health = health_of("codec", "x")
    with caplog.at_level(logging.ERROR):
        for number in range(2):
            health.note_raised(f"E{number}")
            health.note_wrong(f"W{number}")
            health.note_time(STALL_S)
            health.note_time(STALL_S * 0.9)
    assert caplog.messages == [
        "codec 'x' (a-package 1.2) is at fault: E0",
        "codec 'x' (a-package 1.2) is at fault: W0",
        "codec 'x' (a-package 1.2) is at fault: blocked for 0.5 s",
    ]
    numbers = numbers_of(health.counters)
    assert numbers["plugin_faults", ("codec", "x")] == 4
    assert numbers["plugin_stalls", ("codec", "x")] == 2
    assert numbers["plugin_set_aside", ("codec", "x")] == 0


def test_it_is_set_aside_after_so_many_faults(caplog: pytest.LogCaptureFixture) -> None:
    health = health_of("policy", "p")
    for number in range(2 * MOST_FAULTS):
        assert health.is_set_aside == (number >= MOST_FAULTS)
        health.note_wrong("no")
    said = [line for line in caplog.messages if "set aside" in line]
    assert said == ["policy 'p' (a-package 1.2) is set aside, another goes on: 8 faults"]


def test_stalls_weigh_more() -> None:
    health = health_of("codec", "x")
    for number in range(MOST_STALLS + 1):
        assert health.is_set_aside == (number >= MOST_STALLS)
        health.note_time(1.0)
