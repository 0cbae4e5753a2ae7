"""The terminal comes back as it was, whatever ends the drawing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fuseswap
from tests.support.pseudoterminals import ENTERED, LEFT, Terminal, terminal

pytestmark = pytest.mark.slow

SOURCE = Path(fuseswap.__file__).resolve().parent.parent
PROGRAM = """
import fuseswap, sys, types

cli = types.ModuleType("fuseswap.cli")  # without the commands, which take 0.3 s to import
cli.__path__ = [fuseswap.__path__[0] + "/cli"]
sys.modules["fuseswap.cli"] = cli
from fuseswap.cli.terminal import Ended, Terminal

def render(width):
    return [f"{width} columns", "x" * 300, "a\\u00b7\\u4e2d", *map(str, range(40))]

try:
    with Terminal() as terminal:
        terminal.draw(render)
        if "raise" in sys.argv:
            raise ValueError("on purpose")
        terminal.wait((), 60)
except Ended as exc:
    print("ended by", exc.by.name if exc.by else "a key")
"""
MORE = "... a larger window shows more"
ENVIRONMENT = {
    **os.environ,
    "TERM": "xterm",
    "PYTHONPATH": str(SOURCE),
    "PYTHON_COLORS": "0",  # of tracebacks, since Python 3.13
}


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *arguments]


def expected(rows: int, columns: int) -> list[str]:
    """What the program shows on so large a screen."""
    lines = [f"{columns} columns", "x" * 300, "a\u00b7\u4e2d", *map(str, range(40))]
    if len(lines) > rows:
        lines = [*lines[: rows - 1], MORE]
    return [line[:columns] for line in lines]


def wait_for_frame(found: Terminal, rows: int = 24, columns: int = 80) -> None:
    found.read_until(
        f"a frame of {columns}x{rows}", lambda: found.shown() == expected(rows, columns)
    )


@pytest.fixture
def drawn() -> Iterator[Terminal]:
    with terminal(program(), env=ENVIRONMENT) as found:
        wait_for_frame(found)
        assert ENTERED in found.printed
        assert not found.shows_cursor()
        assert found.modes() != found.modes_before
        yield found


def assert_restored(found: Terminal) -> None:
    assert found.modes() == found.modes_before
    assert LEFT in found.printed
    assert found.shows_cursor()


@pytest.mark.parametrize(("rows", "columns"), [(10, 40), (60, 200), (1, 12), (2, 1)])
def test_a_frame_fits_and_says_what_is_missing(rows: int, columns: int) -> None:
    with terminal(program(), rows, columns, env=ENVIRONMENT) as found:
        wait_for_frame(found, rows, columns)


def test_a_terminal_that_does_not_know_its_size_is_taken_for_80x24() -> None:
    with terminal(program(), env=ENVIRONMENT) as found:
        found.resize(0, 0)
        wait_for_frame(found)


@pytest.mark.parametrize("kind", ["linux", "screen", "tmux-256color", "vt100", "not-in-terminfo"])
def test_terminals_of_other_kinds(kind: str) -> None:
    with terminal(program(), env={**ENVIRONMENT, "TERM": kind}) as found:
        wait_for_frame(found)
        found.type(b"q")
        assert found.wait_for_end() == 0
        assert found.modes() == found.modes_before
        assert found.shows_cursor()


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
    for rows, columns in ((50, 100), (10, 40), (24, 80), (60, 200), (1, 12), (24, 80)):
        drawn.resize(rows, columns)
        wait_for_frame(drawn, rows, columns)


def test_sizes_that_change_while_it_draws(drawn: Terminal) -> None:
    for step in range(100):
        drawn.resize(1 + step % 60, 1 + step * 7 % 200)
    drawn.resize(10, 40)
    wait_for_frame(drawn, 10, 40)
    drawn.type(b"q")
    assert drawn.wait_for_end() == 0
    assert_restored(drawn)


def test_what_others_write_on_it_is_drawn_over(drawn: Terminal) -> None:
    drawn.write(b"\x1b[5;5Ha message for all users\r\n\n")
    drawn.read_until("the message", lambda: any("message" in line for line in drawn.shown()))
    drawn.send(signal.SIGWINCH)
    wait_for_frame(drawn)


def test_a_terminal_that_takes_no_output_is_not_waited_for(drawn: Terminal) -> None:
    drawn.stop_output()
    drawn.send(signal.SIGWINCH)
    drawn.type(b"q")
    drawn.read_until("the modes", lambda: drawn.modes() == drawn.modes_before)
    drawn.go_on_with_output()
    assert drawn.wait_for_end() == 0
    assert_restored(drawn)


def test_stopped_and_continued(drawn: Terminal) -> None:
    drawn.send(signal.SIGTSTP)
    drawn.read_until("the stop", drawn.is_stopped)
    drawn.read_until("the way back", lambda: LEFT in drawn.printed)
    assert_restored(drawn)
    drawn.printed = b""
    drawn.send(signal.SIGCONT)
    drawn.read_until("another frame", lambda: MORE.encode() in drawn.printed)
    wait_for_frame(drawn)
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


@pytest.mark.parametrize("kind", ["", "dumb", "unknown"])
def test_a_terminal_that_cannot_be_drawn_on(kind: str) -> None:
    with terminal(program(), env={**ENVIRONMENT, "TERM": kind}) as found:
        assert found.wait_for_end() == 1
        assert found.modes() == found.modes_before
        assert ENTERED not in found.printed
        assert b"use --batch" in found.printed


def test_nothing_imports_curses_before_it_draws() -> None:
    code = "import sys; from fuseswap.cli import top; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "fuseswap.cli.top" in done.stdout.split()
    assert "curses" not in done.stdout.split()
