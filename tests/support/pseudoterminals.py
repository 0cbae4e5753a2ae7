"""A pseudoterminal with a process on it: what its screen shows, keys, size, and modes."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyte

ENTERED = b"\x1b[?1049h"
LEFT = b"\x1b[?1049l"
# What a shell does: without a parent outside its process group nobody can be stopped.
_SHELL = """
import os, signal, sys
job = os.fork()
if not job:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
code = os.waitstatus_to_exitcode(os.waitpid(job, 0)[1])
sys.exit(code if code >= 0 else 128 - code)
"""


class Terminal:
    """A process run as if by a shell, whose controlling terminal is read here."""

    def __init__(self, command: Sequence[str], rows: int, columns: int, **more: Any) -> None:
        self._master, self._slave = pty.openpty()
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.resize(rows, columns)
        self.modes_before = self.modes()
        self.printed = b""
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", _SHELL, *command],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            **more,
        )

    def close(self) -> None:
        """End the process, whatever it does."""
        if self.process.poll() is None:
            self.send(signal.SIGKILL)
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def modes(self) -> list[Any]:
        """As `termios.tcgetattr` has them."""
        return termios.tcgetattr(self._slave)

    def set_modes(self, modes: list[Any]) -> None:
        termios.tcsetattr(self._slave, termios.TCSANOW, modes)

    def resize(self, rows: int, columns: int) -> None:
        """Also signals whoever is in the foreground."""
        self._screen.resize(rows, columns)
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def write(self, data: bytes) -> None:
        """Print as another process does that has the terminal open."""
        os.write(self._slave, data)

    def stop_output(self) -> None:
        """As Scroll Lock does on a console."""
        termios.tcflow(self._slave, termios.TCOOFF)

    def go_on_with_output(self) -> None:
        termios.tcflow(self._slave, termios.TCOON)

    def read_until(self, what: str, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Take what is printed until ``condition`` holds; fails with ``what`` it waited for."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"waited for {what}; printed: {self.printed!r}"
            if select.select([self._master], [], [], 0.05)[0]:
                self._read()

    def shown(self) -> list[str]:
        """The lines on the screen, without what is empty at their ends and below them.

        A frame may be there in part.
        """
        lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def shows_cursor(self) -> bool:
        """Whether there is a cursor on the screen."""
        return not self._screen.cursor.hidden

    def wait_for_end(self) -> int:
        """Its exit code (128 and the signal), and all it printed read."""
        self.read_until("the end of the process", lambda: self.process.poll() is not None)
        while select.select([self._master], [], [], 0)[0]:
            self._read()
        return self.process.wait()

    def is_stopped(self) -> bool:
        """Whether job control has stopped it."""
        with open(f"/proc/{os.tcgetpgrp(self._master)}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        os.killpg(os.tcgetpgrp(self._master), number)

    def _read(self) -> None:
        data = os.read(self._master, 1 << 16)
        self.printed += data
        self._stream.feed(data)


@contextmanager
def terminal(
    command: Sequence[str], rows: int = 24, columns: int = 80, **more: Any
) -> Iterator[Terminal]:
    """A `Terminal` that leaves no process behind."""
    found = Terminal(command, rows, columns, **more)
    try:
        yield found
    finally:
        found.close()
