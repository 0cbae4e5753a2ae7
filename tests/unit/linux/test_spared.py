"""A command that the OOM killer is not to take, and what becomes of that afterwards."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuseswap.cli import main, sets
from fuseswap.linux import protect

SCORE = Path("/proc/self/oom_score_adj")


def score() -> int:
    return int(SCORE.read_text())


@contextmanager
def may_lower() -> Iterator[bool]:
    """Whether this process may; as it was afterwards."""
    before = score()
    try:
        SCORE.write_text("-1000")
    except OSError:
        yield False
        return
    SCORE.write_text(str(before))
    yield True
    SCORE.write_text(str(before))


def test_it_is_spared_where_that_is_permitted_and_no_longer() -> None:
    before = score()
    with may_lower() as permitted:
        with protect.spared():
            assert score() == (-1000 if permitted else before)
        assert score() == before


def test_where_it_is_forbidden_the_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(value: int) -> None:
        raise PermissionError

    before = score()
    monkeypatch.setattr(protect, "_write_oom_score_adj", forbidden)
    with protect.spared():
        assert score() == before


@pytest.mark.parametrize(
    ("arguments", "is_spared"),
    [
        (["up"], True),
        (["down"], True),
        (["status"], False),
        (["run", "--memory=64M", "true"], False),
    ],
)
def test_up_and_down_are_spared(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], is_spared: bool
) -> None:
    seen = []

    def run(options: argparse.Namespace) -> int:
        child = subprocess.run(
            [sys.executable, "-c", f"print(open({str(SCORE)!r}).read())"],
            capture_output=True,
            check=True,
        )
        seen.append((score(), int(child.stdout)))
        return 0

    before = score()
    monkeypatch.setattr(sets, "run", run)
    with may_lower() as permitted:
        expected = -1000 if permitted and is_spared else before
        assert main(arguments) == 0
        assert seen == [(expected, expected)]
        assert score() == before
