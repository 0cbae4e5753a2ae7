"""What a command prints, without what a terminal would obey (``linux/visible.py``).

Everything a subcommand prints goes through here, whatever it was made of.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from fuseswap.errors import FuseswapError
from fuseswap.linux import visible


class OutputFailed(FuseswapError):
    """Standard output takes no more; ``is_closed``: who reads it has seen enough (`| head`)."""

    def __init__(self, exc: OSError) -> None:
        super().__init__(f"standard output: {exc.strerror}")
        self.is_closed = exc.errno == errno.EPIPE


class _Visible:
    """A stream of text; all but `write` and `flush` is the other's."""

    def __init__(self, stream: TextIO, *, must_succeed: bool) -> None:
        self._stream = stream
        self._must_succeed = must_succeed

    def write(self, text: str) -> int:
        """Line breaks are meant, and a return to the start of the line that begins the text."""
        back = text.startswith("\r")
        with self._watched():
            self._stream.write("\r" * back + visible.lines(text[back:]))
        return len(text)

    def flush(self) -> None:
        with self._watched():
            self._stream.flush()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """A failure is `OutputFailed`, or nothing; the rest goes nowhere."""
        try:
            yield
        except OSError as exc:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
            if self._must_succeed:
                raise OutputFailed(exc) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def print_json(value: object) -> None:
    """What ``--json`` prints: of one thing an object, of several an array of objects.

    Keys are words with ``_``.  Sizes are bytes, and ``_bytes`` ends their key; times are seconds,
    and it is ``_s``.  An unknown value is null.
    """
    print(json.dumps(value, indent=1))


@contextmanager
def visible_output() -> Iterator[None]:
    """Standard output and standard error, while a command runs."""
    before = sys.stdout, sys.stderr
    # One that was closed is None.
    sys.stdout, sys.stderr = (
        cast(TextIO, stream and _Visible(stream, must_succeed=stream is before[0]))
        for stream in before
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
