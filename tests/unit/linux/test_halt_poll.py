"""What an idle processor does first."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from fuseswap.cli import check
from fuseswap.linux import halt_poll


@pytest.mark.parametrize(
    ("governor", "setting", "expected"),
    [
        ("haltpoll\n", "0\n", 0),
        ("haltpoll\n", "200000\n", 200_000),
        ("menu\n", "0\n", None),
        ("haltpoll\n", "much\n", None),
        ("haltpoll\n", None, None),
        (None, "0\n", None),
    ],
)
def test_what_the_kernel_says(
    tmp_path: Path, governor: str | None, setting: str | None, expected: int | None
) -> None:
    files = {"governor": governor, "setting": setting}
    for name, text in files.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    assert halt_poll.guest_halt_poll_ns(tmp_path / "governor", tmp_path / "setting") == expected


@pytest.mark.parametrize(
    ("polls_ns", "good", "says"),
    [
        (0, False, "echo 50000 > /sys/module/haltpoll/parameters/guest_halt_poll_ns"),
        (50_000, True, "up to 50 us"),
        (None, True, "as the kernel has it"),
    ],
)
def test_check_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    polls_ns: int | None,
    good: bool,
    says: str,
) -> None:
    monkeypatch.setattr(halt_poll, "guest_halt_poll_ns", lambda: polls_ns)
    check.run(argparse.Namespace(stripes=1, json=False, advise=False))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "idle processors" in line]
    assert line.startswith("ok  " if good else "note")
    assert says in line
