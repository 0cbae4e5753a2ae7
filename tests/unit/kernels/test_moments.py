"""Random moments, and what is promised of each file between them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.kernels.guest import moments
from tests.kernels.guest.moments import Marks, Step, marks_in, plan
from tests.kernels.power_promises import ABSENT, BLANK, CLAIMED, Promise, is_kept, promises

SEEDS = range(40)


def marks(*steps: Step, over: bool = True) -> list[dict[str, Any]]:
    """Of steps that have ended, but for the last one where it is not ``over``."""
    found = [{"is": kind, **asdict(step)} for step in steps for kind in ("begin", "end")]
    return found if over else found[:-1]


def states(*steps: Step, over: bool = True) -> dict[str, set[str]]:
    return {name: set(one.states) for name, one in promises(marks(*steps, over=over)).items()}


UP, ADD = Step("up", "p0", "f0"), Step("add", "p0", "t0")
REMOVE, DOWN, EMPTY = Step("remove", "p0", "t0"), Step("down", "p0"), Step("empty", file="f0")


def test_a_plan_follows_from_its_seed() -> None:
    assert plan(1, 5) == plan(1, 5) != plan(2, 5)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_can_be_done(seed: int) -> None:
    """Nothing is used that is not there, or twice; each device goes down."""
    up, tiers, there = "", set[str](), set[str]()
    for step in plan(seed, 6):
        if step.what in ("blank", "empty"):
            assert step.file not in there
            there.add(step.file)
        elif step.what == "up":
            assert not up
            up = step.device
        elif step.what == "add":
            assert step.file not in tiers
            tiers.add(step.file)
        elif step.what in ("drain", "remove"):
            assert step.file in tiers
            tiers -= {step.file} if step.what == "remove" else set()
        elif step.what == "down":
            up, tiers = "", set()
        assert step.device in (up, "") or step.what == "down"
    assert not up


def test_plans_have_every_kind_of_moment() -> None:
    found = {step.what for seed in SEEDS for step in plan(seed, 6)}
    assert found == {
        "blank", "empty", "up", "store", "writeback", "add", "drain", "remove", "die", "down",
    }  # fmt: skip
    options = {step.options for seed in SEEDS for step in plan(seed, 6) if step.what == "up"}
    assert options == {(), ("encrypt=no",), ("in-place",), ("encrypt=no", "in-place")}


def test_what_is_marked_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(16384))
    monkeypatch.setattr(moments, "MARKS_BYTES", 8192)
    written = Marks(str(disk), 8192)
    for what in ("one", "two", "three"):
        written.write({"what": what})
    with pytest.raises(ValueError, match="a mark of"):
        written.write({"what": "x" * 4096})
    written.close()
    found = list(marks_in(disk.read_bytes()))
    assert found == [{"number": 2, "what": "three"}, {"number": 1, "what": "two"}]
    assert not any(disk.read_bytes()[:8192])


def test_a_file_that_up_makes_is_absent_claimed_absent() -> None:
    assert states(UP, over=False) == {"f0": {ABSENT, BLANK, CLAIMED}}
    assert states(UP) == {"f0": {CLAIMED}}
    assert states(UP, DOWN, over=False) == {"f0": {ABSENT, CLAIMED}}
    assert states(UP, DOWN) == {"f0": {ABSENT}}


def test_a_file_of_a_person_is_blank_claimed_blank() -> None:
    assert states(EMPTY, over=False) == {"f0": {ABSENT, BLANK}}
    assert states(EMPTY) == {"f0": {BLANK}}
    assert states(EMPTY, UP, over=False) == {"f0": {BLANK, CLAIMED}}
    assert states(EMPTY, UP) == {"f0": {CLAIMED}}
    assert states(EMPTY, UP, DOWN, over=False) == {"f0": {BLANK, CLAIMED}}
    assert states(EMPTY, UP, DOWN) == {"f0": {BLANK}}


def test_a_tier_comes_and_goes_by_itself_or_with_its_device() -> None:
    assert states(UP, ADD, REMOVE, over=False) == {"f0": {CLAIMED}, "t0": {ABSENT, CLAIMED}}
    assert states(UP, ADD, REMOVE) == {"f0": {CLAIMED}, "t0": {ABSENT}}
    assert states(UP, ADD, DOWN) == {"f0": {ABSENT}, "t0": {ABSENT}}
    assert states(UP, ADD, Step("die", "p0")) == {"f0": {CLAIMED}, "t0": {CLAIMED}}


BEING_TAKEN = Promise(frozenset({BLANK, CLAIMED}), "p0", made=False)
CLAIMED_BY_P0 = Promise(frozenset({CLAIMED}), "p0", made=True)


@pytest.mark.parametrize(
    ("promise", "found", "why"),
    [
        (None, (ABSENT, "", False), ""),
        (None, (BLANK, "", False), "is blank, not absent"),
        (CLAIMED_BY_P0, (CLAIMED, "p0", True), ""),
        (CLAIMED_BY_P0, (CLAIMED, "p1", True), "is of 'p1', not 'p0'"),
        (CLAIMED_BY_P0, (CLAIMED, "p0", False), "is not one that was made"),
        (CLAIMED_BY_P0, (BLANK, "", False), "is blank, not claimed"),
        (BEING_TAKEN, (CLAIMED, "p0", True), "is one that was made"),
        (BEING_TAKEN, (BLANK, "", False), ""),
    ],
)  # fmt: skip
def test_what_is_not_kept_is_said(
    promise: Promise | None, found: tuple[str, str, bool], why: str
) -> None:
    assert is_kept(promise, *found) == why
