"""What scripts/kernels makes of its command line."""

from __future__ import annotations

import os

import pytest

from tests.kernels import power_command
from tests.kernels.__main__ import parser, wanted
from tests.kernels.scenario import GROUPS, BadName


def names(*words: str) -> list[str]:
    return [scenario.name for scenario in wanted(parser().parse_args(["run", *words]))]


def test_without_options_it_is_one() -> None:
    assert names() == ["6.12-384-c"]


def test_options_make_a_product() -> None:
    found = names("--kernels", "6.1,7", "--memory", "192", "--hog", "c,fork", "--kill", "both")
    assert found == [
        "6.1-192-c-kill.both",
        "6.1-192-fork-kill.both",
        "7-192-c-kill.both",
        "7-192-fork-kill.both",
    ]


def test_all_is_every_one_of_them() -> None:
    assert len(names("--kernels", "all", "--memory", "all", "--hog", "all")) == 60


def test_names_and_groups_may_be_mixed() -> None:
    assert names("ci", "7-640-c") == [*(one.name for one in GROUPS["ci"]), "7-640-c"]


def test_a_named_one_gets_its_controls_before_it() -> None:
    found = names("6.1-384-c-packed", "6.1-384-c", "--control", "file,zram")
    assert found == ["6.1-384-c-file", "6.1-384-c-zram", "6.1-384-c-packed", "6.1-384-c"]


def test_the_size_of_the_hog_is_the_controls_too() -> None:
    found = names("--hog-mib", "500", "--control", "file")
    assert found == ["6.12-384-c-500m-file", "6.12-384-c-500m"]


@pytest.mark.parametrize(
    "words", [("--kernels", "5.4"), ("--hog", "c,java"), ("--memory", "300"), ("6.12-384",)]
)
def test_what_there_is_not_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(BadName):
        names(*words)


def power(*words: str) -> int:
    return power_command.run(parser().parse_args(["power", *words]))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--cuts", "0"), "--cuts and --rounds are at least 1"),
        (("--rounds", "-1"), "--cuts and --rounds are at least 1"),
        (("--command-every", "-1"), "--command-every at least 0"),
        (("--kernel", "5.4"), "'5.4' is none of 6.1, 6.12, 7"),
        (("--log", "/proc"), "/proc has no recording"),
    ],
)
def test_power_refuses_what_it_cannot_do(
    words: tuple[str, ...], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(BadName, match=why):
        power(*words)


def test_power_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BadName, match="it needs root"):
        power()
