"""Orders that take a while: give one to a device and show how far it is, until it is done.

On a terminal one line with a bar is written over and over.  Elsewhere, as in a log, there is a
line at the start, one at the end, and one each `_LINE_EVERY_S` between them.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size

from fuseswap.cli.parameter_files import directory_of, set_value
from fuseswap.cli.watching import is_terminal
from fuseswap.errors import HostError
from fuseswap.linux.timed_file import read_file

LOOK_EVERY_S = 0.2
STUCK_AFTER_S = 10.0
_LINE_EVERY_S = 30.0
_BAR_WIDTH = 30
_PROGRESS = re.compile(r"(\d+) of (\d+)")


class Progress:
    """Where something stands, on standard error.  Its last state is always shown."""

    def __init__(self) -> None:
        self._on_terminal = is_terminal(sys.stderr)
        self._shown = ""
        self._latest = ""
        self._due_s = 0.0

    def show(self, text: str) -> None:
        """``text``, of one line, in place of that before."""
        self._latest = text
        if self._on_terminal:
            width = get_terminal_size().columns - 1  # a full line would wrap
            self._write(f"\r{text[:width].ljust(min(len(self._shown), width))}", end="")
        elif time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + _LINE_EVERY_S
            self._write(text)

    def end(self) -> None:
        """What comes next stands on a line of its own."""
        if self._on_terminal and self._shown:
            print(file=sys.stderr)
        elif self._latest != self._shown:
            self._write(self._latest)

    def _write(self, line: str, end: str = "\n") -> None:
        self._shown = self._latest
        print(line, end=end, flush=True, file=sys.stderr)

    def bar(self, done: float, total: float) -> str:
        """``[####....] ``, where it is drawn on a terminal."""
        if not self._on_terminal or total <= 0:
            return ""
        filled = int(min(done, total) / total * _BAR_WIDTH)
        return f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] "


@contextmanager
def progress() -> Iterator[Progress]:
    """A `Progress` that ends with the block."""
    shown = Progress()
    try:
        yield shown
    finally:
        shown.end()


def order(
    name: str,
    parameter: str,
    wanted: str,
    stuck: str,
    stuck_after_s: float = STUCK_AFTER_S,
    *,
    watched: str = "",
    pick: Callable[[str], str] = str.strip,
) -> None:
    """Set ``parameter`` of the device ``name`` to ``wanted``, and return when that is done.

    The progress is what ``pick`` makes of the text of ``watched``, of ``parameter`` by default.
    Raises `InvalidArgument`, or `HostError`: saying ``stuck`` where nothing has moved for
    ``stuck_after_s``, or that device or worker have gone.
    """
    set_value(directory_of(name) / parameter, wanted)
    path = directory_of(name) / (watched or parameter)
    with progress() as shown:
        for state, done, total in states(name, path, stuck, stuck_after_s, pick=pick):
            shown.show(shown.bar(done, total) + state.partition("\n")[0])


def states(
    name: str,
    path: Path,
    stuck: str,
    stuck_after_s: float = STUCK_AFTER_S,
    *,
    pick: Callable[[str], str] = str.strip,
    look_every_s: float = LOOK_EVERY_S,
) -> Iterator[tuple[str, int, int]]:
    """An order was given: its state, how much is done and of how much, until that is all.

    Raises as `order`.
    """
    left, before, changed = -1, "", time.monotonic()
    while left:
        try:
            state = pick(read_file(path))
        except OSError as exc:
            raise HostError(f"{name} has gone away meanwhile: {exc.strerror}") from exc
        found = _PROGRESS.search(state)
        if found is None and left > 0:
            raise HostError(
                f"the worker of {name} was replaced, and orders are forgotten then: give it again"
            )
        done, total = (int(found[1]), int(found[2])) if found else (0, 0)
        yield state, done, total
        left = total - done
        if state != before:
            before, changed = state, time.monotonic()
        elif left and time.monotonic() - changed > stuck_after_s:
            raise HostError(stuck)
        time.sleep(look_every_s if left else 0)
