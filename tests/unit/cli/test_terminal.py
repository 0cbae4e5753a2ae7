"""The terminal comes back as it was, whatever ends the drawing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fuseswap
from tests.terminals import ENTERED, LEFT, Terminal, terminal

SOURCE = Path(fuseswap.__file__).resolve().parent.parent
PROGRAM = """
import sys
from fuseswap.cli.terminal import Ended, Screen

def render(width):
    return [f"{width} columns", "x" * 300, *(str(number) for number in range(30))]

try:
    with Screen() as screen:
        screen.draw(render)
        if "raise" in sys.argv:
            raise ValueError("on purpose")
        screen.wait((), 60)
except Ended as exc:
    print("ended by", exc.by.name if exc.by else "a key")
"""
ENVIRONMENT = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(SOURCE)}


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *arguments]


@pytest.fixture
def drawn() -> Iterator[Terminal]:
    with terminal(program(), env=ENVIRONMENT) as found:
        found.read_until("a first frame", lambda: bool(found.frame()))
        assert ENTERED in found.printed
        assert found.modes() != found.modes_before
        yield found


def assert_restored(found: Terminal) -> None:
    assert found.modes() == found.modes_before
    assert LEFT in found.printed


def test_a_frame_fits_and_says_what_is_missing(drawn: Terminal) -> None:
    frame = drawn.frame()
    assert frame[0] == "80 columns"
    assert max(map(len, frame)) == 80
    assert len(frame) == 24
    assert frame[-1] == "... a larger window shows more"


def test_q_ends(drawn: Terminal) -> None:
    drawn.type(b"xq")
    assert drawn.wait_for_end() == 0
    assert_restored(drawn)
    assert drawn.printed.endswith(b"ended by a key\r\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends(drawn: Terminal, number: signal.Signals) -> None:
    drawn.send(number)
    assert drawn.wait_for_end() == 0
    assert_restored(drawn)
    assert drawn.printed.endswith(f"ended by {number.name}\r\n".encode())


def test_ctrl_c_is_a_signal(drawn: Terminal) -> None:
    drawn.type(b"\x03")
    assert drawn.wait_for_end() == 0
    assert_restored(drawn)
    assert b"ended by SIGINT" in drawn.printed


def test_an_exception_ends() -> None:
    with terminal(program("raise"), env=ENVIRONMENT) as found:
        assert found.wait_for_end() == 1
        assert_restored(found)
        assert found.printed.index(LEFT) < found.printed.index(b"ValueError: on purpose")


def test_another_size_is_drawn_anew(drawn: Terminal) -> None:
    drawn.resize(50, 100)
    drawn.read_until("the new size", lambda: drawn.frame()[:1] == ["100 columns"])
    assert len(drawn.frame()) == 32


def test_stopped_and_continued(drawn: Terminal) -> None:
    drawn.send(signal.SIGTSTP)
    drawn.read_until("the stop", drawn.is_stopped)
    drawn.read_until("the way back", lambda: LEFT in drawn.printed)
    assert_restored(drawn)
    drawn.printed = b""
    drawn.send(signal.SIGCONT)
    drawn.read_until("another frame", lambda: bool(drawn.frame()))
    assert drawn.printed.count(ENTERED) == 1
    assert drawn.modes() != drawn.modes_before
    drawn.type(b"q")
    assert drawn.wait_for_end() == 0
    assert_restored(drawn)


def test_modes_a_shell_has_set_meanwhile_are_set_again(drawn: Terminal) -> None:
    mine = drawn.modes()
    drawn.send(signal.SIGSTOP)
    drawn.read_until("the stop", drawn.is_stopped)
    drawn.set_modes(drawn.modes_before)
    drawn.send(signal.SIGCONT)
    drawn.read_until("the modes", lambda: drawn.modes() == mine)


@pytest.mark.parametrize("kind", ["", "dumb"])
def test_a_terminal_that_cannot_be_drawn_on(kind: str) -> None:
    with terminal(program(), env={**ENVIRONMENT, "TERM": kind}) as found:
        assert found.wait_for_end() == 1
        assert found.modes() == found.modes_before
        assert ENTERED not in found.printed
        assert b"use --batch" in found.printed
