"""The terminal while `top` draws on all of it, and its way back in every case.

curses knows the terminal and writes to it.  Signals and waiting are here:

    q, SIGINT, SIGTERM, SIGHUP   `Ended`, from `wait`
    an exception                 by the context manager
    SIGTSTP                      back, stop; drawn again on SIGCONT
    SIGWINCH                     drawn again

Signals are bytes in a pipe that `wait` looks at, so nothing else is interrupted.  curses
repeats a write that a signal interrupts.  So a terminal that takes no output is not drawn
on.  Where one stops within a frame, signals wait until it goes on or hangs up.

`top` alone imports this, and only where it draws.
"""

from __future__ import annotations

import curses
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType

from fuseswap.errors import HostError

# Lines of so many columns; what is longer is cut off.
Render = Callable[[int], list[str]]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SIGNALS = (*_ENDING, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


class Ended(Exception):
    """It is to end: by a key (None) or by a signal."""

    def __init__(self, by: signal.Signals | None) -> None:
        super().__init__(by)
        self.by = by


class Terminal:
    """Context manager: the terminal on standard input and output.  Main thread only."""

    def __init__(self) -> None:
        """Raises `HostError` for a terminal that can't be drawn on."""
        self._input = sys.stdin.fileno()
        self._output = sys.stdout.fileno()
        self._render: Render = lambda width: []
        _look_up(self._output)

    def __enter__(self) -> Terminal:
        self._before = termios.tcgetattr(self._input)
        self._wake, self._theirs = os.pipe()
        for end in (self._wake, self._theirs):
            os.set_blocking(end, False)
        self._handlers = {
            number: signal.signal(number, lambda number, frame: None)
            for number in _SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        self._old_wakeup = signal.set_wakeup_fd(self._theirs, warn_on_full_buffer=False)
        try:
            self._take()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()

    def draw(self, render: Render) -> None:
        """Show this, also after the size has changed."""
        self._render = render
        self._redraw()

    def wait(self, fds: Sequence[int], timeout_s: float) -> None:
        """Until one of ``fds`` is readable, or the time is over.  Raises `Ended`."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        for fd in (self._input, self._wake, *fds):
            poll.register(fd, select.POLLIN)
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            ready = {fd for fd, _ in poll.poll(left_s * 1000)}
            if self._input in ready:
                self._read_keys()
            if self._wake in ready:
                self._read_signals()
            if not ready or ready - {self._input, self._wake}:
                return

    def _read_keys(self) -> None:
        try:
            keys = os.read(self._input, 64)
        except OSError:
            keys = b""
        if not keys or b"q" in keys or b"Q" in keys:  # none: the terminal has gone
            raise Ended(None)

    def _read_signals(self) -> None:
        """One of each kind is enough."""
        numbers = set(os.read(self._wake, 512))
        for number in _ENDING:
            if number in numbers:
                raise Ended(number)
        if signal.SIGTSTP in numbers:
            self._stop()
        elif signal.SIGCONT in numbers:
            curses.reset_prog_mode()  # a shell had the terminal meanwhile
        self._redraw()

    def _stop(self) -> None:
        """As if the signal had not been caught; drawing takes the terminal again."""
        curses.endwin()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)

    def _take(self) -> None:
        self._window = curses.initscr()
        curses.cbreak()  # Ctrl-C and Ctrl-Z stay signals
        curses.noecho()
        curses.typeahead(-1)  # a key must not cut a frame short
        with suppress(curses.error):  # a terminal that always shows its cursor
            curses.curs_set(0)
        modes = termios.tcgetattr(self._input)
        modes[0] &= ~termios.IXON  # Ctrl-S would only have us hang in a write
        termios.tcsetattr(self._input, termios.TCSANOW, modes)
        curses.def_prog_mode()

    def _release(self) -> None:
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wake)
        os.close(self._theirs)
        with suppress(termios.error):  # the terminal has gone
            termios.tcsetattr(self._input, termios.TCSANOW, self._before)
        with suppress(curses.error):
            curses.endwin()

    def _redraw(self) -> None:
        try:
            width, height = os.get_terminal_size(self._output)
        except OSError as exc:
            raise Ended(None) from exc
        if width and height:  # a serial line does not know
            curses.resizeterm(height, width)
        height, width = self._window.getmaxyx()
        lines = self._render(width)
        if len(lines) > height:
            lines = [*lines[: height - 1], "... a larger window shows more"]
        self._window.erase()
        for row, line in enumerate(lines):
            self._window.insnstr(row, 0, line, width)
        if select.select((), (self._output,), (), 0)[1]:
            self._window.redrawwin()  # all of it: others write to terminals, too
            self._window.refresh()


def _look_up(output: int) -> None:
    """Load the entry of $TERM, or that of xterm where the host does not have it."""
    kind = os.environ.get("TERM", "")
    drawable = False
    if kind not in ("", "dumb", "unknown"):
        for known in (kind, "xterm"):
            with suppress(curses.error):
                curses.setupterm(known, output)
                os.environ["TERM"] = known  # initscr reads it again
                drawable = bool(curses.tigetstr("cup"))
                break
    if not drawable:
        raise HostError(f"a terminal with TERM='{kind}' can't be drawn on; use --batch")
