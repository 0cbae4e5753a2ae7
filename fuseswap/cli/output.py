"""What a command prints, without what a terminal would obey (``linux/visible.py``).

Everything a subcommand prints goes through here, whatever it was made of.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from fuseswap.linux import visible


class _Visible:
    """A stream of text; all but `write` is the other's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Line breaks are meant, and a return to the start of the line that begins the text."""
        back = text.startswith("\r")
        self._stream.write("\r" * back + visible.lines(text[back:]))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def visible_output() -> Iterator[None]:
    """Standard output and standard error, while a command runs."""
    before = sys.stdout, sys.stderr
    # One that was closed is None.
    sys.stdout, sys.stderr = (
        cast(TextIO, stream and _Visible(stream)) for stream in (sys.stdout, sys.stderr)
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
