"""The supervisor's control socket: one request, one answer, then it is closed.

A Unix socket in the runtime directory that only its owner may open.  A request is a line, and
may bring descriptors.  An answer is one line of JSON: ``{"done": TEXT}`` or ``{"refused": TEXT}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fuseswap.daemon.attachment import close, receive
from fuseswap.errors import HostError

_REQUEST_TIMEOUT_S = 1.0  # the supervisor waits for nobody
_MAX_BYTES = 16 << 10


class Asked(NamedTuple):
    """A request; who hears it closes the ``fds`` that came with it."""

    connection: socket.socket
    text: str
    fds: list[int]


def listen(path: Path) -> socket.socket:
    """A listening socket at ``path``; one that a killed supervisor left goes away."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        with _short(path) as short:
            listener.bind(short)
    finally:
        os.umask(mask)
    listener.listen(4)
    listener.setblocking(False)
    return listener


def accept(listener: socket.socket) -> Asked | None:
    """The next connection and what it asks for; None where it is gone or says nothing."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return None
    connection.settimeout(_REQUEST_TIMEOUT_S)
    fds: list[int] = []
    try:
        text, fds = receive(connection, _MAX_BYTES)
        return Asked(connection, text.decode().strip(), fds)
    except (OSError, UnicodeDecodeError):
        close(fds)
        connection.close()
        return None


def answer(connection: socket.socket, kind: str, text: str) -> None:
    """Send ``{kind: text}`` and close; a client that has gone is no error."""
    with connection, contextlib.suppress(OSError):
        connection.sendall(json.dumps({kind: text}).encode() + b"\n")


class NoAnswer(HostError):
    """The supervisor did not say whether it did what it was asked for."""


def ask(path: Path, request: str, timeout_s: float, fds: Sequence[int] = ()) -> str:
    """What the supervisor did.  Raises `HostError` where it refuses, `NoAnswer` without one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with _short(path) as short:
                connection.connect(short)
            socket.send_fds(connection, [request.encode() + b"\n"], fds)
            line = b""
            while not line.endswith(b"\n") and (chunk := connection.recv(_MAX_BYTES)):
                line += chunk
        except TimeoutError:
            raise NoAnswer(f"no answer within {timeout_s:.0f} s (fuseswap status)") from None
        except OSError:
            raise HostError("the supervisor does not answer (fuseswap status)") from None
    if not line:
        raise NoAnswer("the supervisor ended before it answered (fuseswap status)")
    said: dict[str, str] = json.loads(line)
    if "done" not in said:
        raise HostError(said["refused"])
    return said["done"]


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of ``path`` that fits into the 108 bytes of an address."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
