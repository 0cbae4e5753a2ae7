"""The terminal while a command draws on all of it, and its way back in every case.

Plain control sequences, those every terminal of today knows; curses would bring a library
and the question whether there is an entry for $TERM.  The terminal goes to the alternate
screen without echo and without line editing, and back:

    q, SIGINT, SIGTERM, SIGHUP   `Ended`, from `wait` or from a write that is stuck
    an exception                 by the context manager
    SIGTSTP                      back, stop; drawn again on SIGCONT
    SIGWINCH                     drawn again

Signals are bytes in a pipe that `wait` looks at, so nothing else is interrupted.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType, TracebackType

from fuseswap.errors import HostError

# Lines of so many columns; what is longer is cut off.
Render = Callable[[int], list[str]]

_ENTER = b"\x1b[?1049h\x1b[?25l"
_LEAVE = b"\x1b[?25h\x1b[?1049l"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SIGNALS = (*_ENDING, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


class Ended(Exception):
    """Somebody wants it to end: by a key (None) or by a signal."""

    def __init__(self, by: signal.Signals | None) -> None:
        super().__init__(by)
        self.by = by


class Screen:
    """Context manager: the terminal on standard input and output.  Main thread only."""

    def __init__(self) -> None:
        """Raises `HostError` for a terminal that can't be drawn on."""
        kind = os.environ.get("TERM", "")
        if kind in ("", "dumb", "unknown"):
            raise HostError(f"a terminal with TERM='{kind}' can't be drawn on; use --batch")
        self._input = sys.stdin.fileno()
        self._output = sys.stdout.fileno()
        self._render: Render = lambda width: []
        self._writing = False

    def __enter__(self) -> Screen:
        self._before = termios.tcgetattr(self._input)
        self._wake, theirs = os.pipe()
        for end in (self._wake, theirs):
            os.set_blocking(end, False)
        self._theirs = theirs
        self._handlers = {
            number: signal.signal(number, self._note)
            for number in _SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        self._old_wakeup = signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
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
            self._set_modes()  # a shell had the terminal meanwhile
        self._redraw()

    def _stop(self) -> None:
        """As if the signal had not been caught; goes on when somebody sends SIGCONT."""
        self._give_back()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self._take()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._writing and number in _ENDING:
            raise Ended(signal.Signals(number))

    def _take(self) -> None:
        self._set_modes()
        self._write(_ENTER)

    def _set_modes(self) -> None:
        modes = termios.tcgetattr(self._input)
        # Ctrl-C and Ctrl-Z stay; Ctrl-S would only have us hang in a write.
        modes[0] &= ~termios.IXON
        modes[3] &= ~(termios.ICANON | termios.ECHO)
        modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._input, termios.TCSANOW, modes)

    def _give_back(self) -> None:
        termios.tcsetattr(self._input, termios.TCSANOW, self._before)
        self._write(_LEAVE)

    def _release(self) -> None:
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wake)
        os.close(self._theirs)
        with suppress(OSError, termios.error):  # the terminal has gone
            self._give_back()

    def _redraw(self) -> None:
        try:
            width, height = os.get_terminal_size(self._output)
        except OSError as exc:
            raise Ended(None) from exc
        lines = [line[:width] for line in self._render(width)]
        if len(lines) > height > 0:
            lines = [*lines[: height - 1], "... a larger window shows more"[:width]]
        body = "\x1b[K\r\n".join(lines)
        self._write(b"\x1b[H" + body.encode() + b"\x1b[K\x1b[J")

    def _write(self, data: bytes) -> None:
        self._writing = True
        try:
            while data:
                data = data[os.write(self._output, data) :]
        finally:
            self._writing = False
