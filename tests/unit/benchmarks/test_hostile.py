"""``scripts/hostile`` finds what a user gets, what was never tried, and what he costs."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.hostile import files, processes
from tests.benchmarks.hostile.attempts import BREACH, Attempt, Targets, outcome
from tests.benchmarks.hostile.record import BUSY, HOSTILE, QUIET, Outcome, Tally, Work, cost, work
from tests.benchmarks.hostile.user import NAMES

NOTHING = Targets("x", "/nowhere", (), (), (), (), (), (), (), (), (), (), {})
FILES = {attempt.name: attempt for attempt in files.ATTEMPTS if not attempt.may}
PROCESSES = {attempt.name: attempt for attempt in processes.ATTEMPTS if not attempt.may}
OF_OUR_OWN = (
    "signals", "signals by descriptor", "/proc/PID: read", "/proc/PID: list", "/proc/PID: links",
    "priority", "limits",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt goes to other directories; the next test begins in ours."""
    monkeypatch.chdir(os.getcwd())


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Targets]:
    """A device that everybody may have."""
    for name in ("swapfile", "metrics", "log", "backing"):
        (tmp_path / name).write_bytes(bytes(8192))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(tmp_path / "control"))
        listening.listen(64)
        yield NOTHING._replace(
            runtime_dir=str(tmp_path),
            mounts=[str(tmp_path)],
            directories=[str(tmp_path)],
            texts=[str(tmp_path / "metrics")],
            swapfiles=[str(tmp_path / "swapfile")],
            private=[str(tmp_path / "log")],
            known=[str(tmp_path / "backing")],
            sockets=[str(tmp_path / "control")],
        )


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_open_to_him_is_a_breach(name: str, ours: Targets) -> None:
    assert outcome(FILES[name], ours).startswith(BREACH)


@pytest.mark.parametrize("name", OF_OUR_OWN)
def test_a_process_of_his_own_is_a_breach(name: str) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            found = outcome(PROCESSES[name], NOTHING._replace(pids=[process.pid]))
        finally:
            process.kill()
    assert found.startswith(BREACH)


@pytest.mark.parametrize(
    "attempt", [*FILES.values(), *PROCESSES.values()], ids=lambda one: one.name
)
def test_nothing_to_try_it_on_is_told_from_a_refusal(attempt: Attempt) -> None:
    if attempt.name in ("list directories", "open 4096 handles", "flock"):
        pytest.skip("it makes do with any directory, or needs a file")
    assert outcome(attempt, NOTHING) == "ENOENT"


def tally(**changes: dict[str, int]) -> Tally:
    found = Tally()
    plain = {name: {"EACCES": 3} for name in NAMES}
    found.add({"rounds": 3, "tally": {**plain, **changes}})
    return found


def test_faults_are_breaches_and_what_was_never_tried() -> None:
    assert tally().faults() == []
    [breach] = tally(signals={"EPERM": 2, f"{BREACH}: done": 1}).faults()
    assert breach.startswith("signals: BREACH")
    [absent] = tally(flock={"ENOENT": 4}).faults()
    assert absent.startswith("flock: never tried")
    [missing] = tally(flock={}).faults()
    assert missing.startswith("flock: never tried")
    assert tally(signals={"EPERM": 2, "ESRCH": 1}).faults() == []


def test_what_he_costs() -> None:
    works = [Work(QUIET, 100, 1.0), Work(HOSTILE, 90, 1.0), Work(QUIET, 100, 1.0)]
    assert cost(works, HOSTILE) == pytest.approx(0.1)
    assert cost([*works, Work(BUSY, 180, 2.0)], HOSTILE, BUSY) == pytest.approx(0.0)
    assert cost(works, BUSY) is None


def test_work_counts_by_the_clock_of_the_process() -> None:
    lines = [
        {"phase": "fill", "done": 0.5},
        *({"phase": "touch", "touches": 100 * n, "seconds": 0.5 * n} for n in range(10, 20)),
    ]
    assert work(QUIET, lines) == Work(QUIET, 700, 3.5)  # the first second does not count
    assert work(QUIET, lines[:2]) is None
    assert work(QUIET, []) is None


def outcome_of(**changes: Any) -> Outcome:
    plain: dict[str, Any] = {
        "works": [Work(QUIET, 100, 1.0), Work(HOSTILE, 95, 1.0)],
        "tally": tally(),
        "end": {"bad_pages": 0, "touches": 10, "pages": 20},
        "restarts": 0,
        "slowest_status_s": {QUIET: 0.3, HOSTILE: 0.4},
        "went_wrong": [],
    }
    return Outcome(**{**plain, **changes})


def test_the_verdict() -> None:
    good = outcome_of()
    assert good.faults == []
    assert "cost of hostile beside quiet: 5.0%" in good.lines()
    assert outcome_of(end=None).faults == ["the process under pressure died"]
    assert outcome_of(end={"bad_pages": 2}).faults == ["2 BAD PAGES"]
    assert outcome_of(restarts=1).faults == ["1 restarts of the worker"]
    assert outcome_of(went_wrong=["status shows control characters"]).faults


def test_the_lock_of_benchmarks_is_of_root_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.benchmarks import command_line

    monkeypatch.setattr(command_line, "LOCK", tmp_path / "lock")
    (tmp_path / "lock").touch(0o644)
    with command_line.alone():
        assert os.stat(tmp_path / "lock").st_mode & 0o777 == 0o600
