"""Read and write small files of a FUSE mount without hanging on it.

A request that a dead server has taken cannot be interrupted, so the access is made by
a child process; one that does not end in time is left behind and reported.
"""

from __future__ import annotations

import os
import select
from pathlib import Path

from fuseswap.errors import HostError

TIMEOUT_S = 5.0
_CHUNK = 1 << 16


def read_file(path: Path, timeout_s: float = TIMEOUT_S) -> str:
    """Text of ``path``.  Raises `HostError` where it does not answer, `OSError` otherwise."""
    return _in_child(lambda: path.read_bytes(), path, timeout_s).decode()


def write_file(path: Path, text: str, timeout_s: float = TIMEOUT_S) -> None:
    """Write ``text`` in one piece; errors as in `read_file`."""

    def write() -> bytes:
        fd = os.open(path, os.O_WRONLY)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
        return b""

    _in_child(write, path, timeout_s)


def _in_child(action, path: Path, timeout_s: float) -> bytes:  # type: ignore[no-untyped-def]
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        code = 0
        try:
            os.close(ours)
            content = action()
            while content:
                content = content[os.write(theirs, content) :]
        except OSError as exc:
            code = exc.errno or 1
        finally:
            os._exit(code)
    os.close(theirs)
    content = b""
    with open(ours, "rb", buffering=0) as pipe:
        poll = select.poll()
        poll.register(pipe.fileno(), select.POLLIN)
        while True:
            if not poll.poll(timeout_s * 1000):
                raise HostError(f"{path} does not answer; is the worker alive? (fuseswap status)")
            chunk = os.read(pipe.fileno(), _CHUNK)
            if not chunk:
                break
            content += chunk
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, os.strerror(code), str(path))
    return content
