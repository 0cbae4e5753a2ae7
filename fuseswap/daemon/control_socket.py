"""The supervisor's control socket: one request, one answer, then it is closed.

A Unix socket in the runtime directory that only its owner may open.  An answer is one
line of JSON: ``{"done": TEXT}`` or ``{"refused": TEXT}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from fuseswap.errors import HostError

_REQUEST_TIMEOUT_S = 1.0  # the supervisor waits for nobody
_MAX_BYTES = 4096


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


def accept(listener: socket.socket) -> tuple[socket.socket, str] | None:
    """The next connection and what it asks for; None where it is gone or says nothing."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return None
    connection.settimeout(_REQUEST_TIMEOUT_S)
    try:
        return connection, connection.recv(_MAX_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError):
        connection.close()
        return None


def answer(connection: socket.socket, kind: str, text: str) -> None:
    """Send ``{kind: text}`` and close; a client that has gone is no error."""
    with connection, contextlib.suppress(OSError):
        connection.sendall(json.dumps({kind: text}).encode() + b"\n")


def ask(path: Path, request: str, timeout_s: float) -> str:
    """What the supervisor did.  Raises `HostError` where it refuses or does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with _short(path) as short:
                connection.connect(short)
            connection.sendall(request.encode() + b"\n")
            line = b""
            while not line.endswith(b"\n") and (chunk := connection.recv(_MAX_BYTES)):
                line += chunk
        except TimeoutError:
            raise HostError(f"no answer within {timeout_s:.0f} s (fuseswap status)") from None
        except OSError:
            raise HostError("the supervisor does not answer (fuseswap status)") from None
    if not line:
        raise HostError("the supervisor ended before it answered (fuseswap status)")
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
