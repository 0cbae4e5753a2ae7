"""A scenario's name says all of it, and a matrix is a product with controls."""

from __future__ import annotations

import pytest

from tests.kernels.load import load_of
from tests.kernels.scenario import GROUPS, HOGS, KERNELS, BadName, Scenario, matrix, parse

EVERY = sorted({scenario for group in GROUPS.values() for scenario in group}, key=str)


def test_a_name_gives_the_scenario_back() -> None:
    assert [parse(scenario.name) for scenario in EVERY] == EVERY


def test_every_part_of_a_name_is_read() -> None:
    found = parse("6.1-256-python-400m-inplace-kill.both-oom")
    assert found == Scenario("6.1", 256, "python", "fuseswap", "in-place", "both", True, 400)


@pytest.mark.parametrize(
    "name",
    ["", "6.12", "6.12-384", "6.12-x-c", "5.4-384-c", "6.12-384-java", "6.12-384-c-kill.none",
     "6.12-384-c-swap", "6.12-384-c-worker", "6.12-384-c-m"],
)  # fmt: skip
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(BadName):
        parse(name)


def test_controls_come_first_and_once() -> None:
    found = [
        scenario.name
        for scenario in matrix(["6.1"], [384], ["c"], ["none", "packed"], controls=["file", "zram"])
    ]
    assert found == ["6.1-384-c-file", "6.1-384-c-zram", "6.1-384-c", "6.1-384-c-packed"]


def test_a_control_has_the_same_hog_and_nothing_is_killed() -> None:
    scenario = parse("6.1-256-fork-300m-packed-kill.both-oom")
    assert scenario.on("file").name == "6.1-256-fork-300m-file-oom"


def test_a_tmpfs_does_not_run_out_for_good() -> None:
    found = matrix(["6.12"], [384], HOGS, out_of_memory=(True,))
    assert "tmpfs" not in {scenario.hog for scenario in found}


def test_every_kernel_size_and_hog_is_in_the_groups() -> None:
    pressed = {(one.kernel, one.memory_mib, one.hog) for one in GROUPS["pressure"]}
    assert len(pressed) == len(KERNELS) * 4 * len(HOGS)


def test_a_hog_that_is_to_be_killed_fits_nowhere() -> None:
    for scenario in EVERY:
        load = load_of(scenario)
        fits = load.hog_mib <= scenario.memory_mib + load.swap_mib
        assert fits != scenario.out_of_memory, scenario.name
