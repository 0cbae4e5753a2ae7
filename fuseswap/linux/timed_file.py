"""Read and write small files of a FUSE mount without hanging on it.

A request that a dead server has taken cannot be interrupted, so the access is made by
a child process.  One that does not end in time is left behind and reported.  `Access` is
for a caller that waits for several at once, or for something else as well.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from fuseswap.errors import HostError

TIMEOUT_S = 5.0
_CHUNK = 1 << 16


def read_file(path: Path, timeout_s: float = TIMEOUT_S) -> str:
    """Text of ``path``.  Raises `HostError` where it does not answer, `OSError` otherwise."""
    return in_child(path.read_bytes, path, timeout_s).decode()


def write_file(path: Path, text: str, timeout_s: float = TIMEOUT_S) -> None:
    """Write ``text`` in one piece; errors as in `read_file`."""

    data = text.encode(errors="surrogateescape")

    def write() -> bytes:
        fd = os.open(path, os.O_WRONLY)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        return b""

    in_child(write, path, timeout_s)


class Access:
    """One access in a child process.  Poll ``fileno`` and call `advance` until it has ended."""

    def __init__(self, action: Callable[[], bytes], path: Path) -> None:
        """Starts it.  ``action`` returns what was read; ``path`` is for the errors."""
        self._path = path
        self._content = b""
        ours, theirs = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(ours)
            _act(action, theirs)
        os.close(theirs)
        self._pipe = ours

    def fileno(self) -> int:
        """Readable when there is something to `advance` with."""
        return self._pipe

    def is_ready(self) -> bool:
        """Whether `advance` would not wait."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return bool(poll.poll(0))

    def advance(self) -> bytes | None:
        """Take what has come; all of it once that was the last.  Raises the `OSError` it met."""
        chunk = os.read(self._pipe, _CHUNK)
        if chunk:
            self._content += chunk
            return None
        os.close(self._pipe)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if code:
            raise OSError(code, os.strerror(code), str(self._path))
        return self._content

    def kill(self) -> None:
        """It is not wanted any more: it ends at once, or when its request is answered or cut off.

        `advance` goes on as before.
        """
        os.kill(self._pid, signal.SIGKILL)

    def abandon(self) -> None:
        """Leave it behind."""
        os.close(self._pipe)


def begin_reading(path: Path) -> Access:
    """Start to read ``path``."""
    return Access(path.read_bytes, path)


def _act(action: Callable[[], bytes], pipe: int) -> NoReturn:
    """What the child does: it never returns, and its exceptions stay here."""
    code = 0
    try:
        _let_go_of_streams(pipe)
        content = action()
        while content:
            content = content[os.write(pipe, content) :]
    except OSError as exc:
        code = exc.errno or 1
    finally:
        os._exit(code)


def _let_go_of_streams(pipe: int) -> None:
    """A child that is left behind must not keep a pipe open that others read to its end."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in {0, 1, 2} - {pipe, null}:
        os.dup2(null, stream)


def in_child(action: Callable[[], bytes], path: Path, timeout_s: float = TIMEOUT_S) -> bytes:
    """What ``action`` returns; errors as in `read_file`."""
    access = Access(action, path)
    poll = select.poll()
    poll.register(access, select.POLLIN)
    while poll.poll(timeout_s * 1000):
        content = access.advance()
        if content is not None:
            return content
    access.abandon()
    raise HostError(f"{path} does not answer; is the worker alive? (fuseswap status)")
