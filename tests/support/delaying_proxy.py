"""A network between a client and a server on this machine: it takes time, and it can be cut.

    python -m tests.support.delaying_proxy PORT DELAY_US [FILE]     its own port is its first line

A process of its own, with a thread for each direction: what arrives is passed on ``DELAY_US``
later, however much is under way.  While it is cut nothing passes, and no connection ends.  ``FILE``
gets all that passes, each connection's pieces in order.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

_TREE = Path(__file__).resolve().parents[2]
_CHUNK_BYTES = 1 << 16


class Proxy:
    """To ``port`` of this machine."""

    def __init__(
        self,
        port: int,
        delay_us: int,
        record: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """``variables``: of its environment, beside ours."""
        words = [str(port), str(delay_us), *([str(record)] if record else [])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.delaying_proxy", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_TREE,
            env={**os.environ, **(variables or {})},
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(word, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == word + "\n"

    def cut(self) -> None:
        """From now on nothing passes."""
        self._say("cut")

    def heal(self) -> None:
        """It passes again, and so does what waited."""
        self._say("heal")

    def close(self) -> None:
        with self._process:
            self._process.kill()


@contextlib.contextmanager
def a_proxy(port: int, delay_us: int = 0, record: Path | None = None) -> Iterator[Proxy]:
    """Ended at the end."""
    proxy = Proxy(port, delay_us, record)
    try:
        yield proxy
    finally:
        proxy.close()


def _pass_on(source: socket.socket, target: socket.socket, delay_s: float) -> None:
    """Both threads of one direction; ends with the connection."""
    due: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def send() -> None:
        with contextlib.suppress(OSError):
            while True:
                at, data = due.get()
                time.sleep(max(0.0, at - time.monotonic()))
                _open.wait()
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)

    threading.Thread(target=send, daemon=True).start()
    data = b"-"
    while data:
        try:
            data = source.recv(_CHUNK_BYTES)
        except OSError:
            data = b""
        if _record:
            os.write(_record[0], data)
        due.put((time.monotonic() + delay_s, data))


def _serve(listening: socket.socket, port: int, delay_s: float) -> None:
    while True:
        client, _ = listening.accept()
        server = socket.create_connection(("127.0.0.1", port))
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for pair in ((client, server), (server, client)):
            threading.Thread(target=_pass_on, args=(*pair, delay_s), daemon=True).start()


_open = threading.Event()
_record: list[int] = []  # a descriptor, or none


def _main(port: int, delay_us: int, *record: str) -> None:
    _open.set()
    _record.extend(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for path in record)
    listening = socket.create_server(("127.0.0.1", 0))
    serving = (listening, port, delay_us / 1e6)
    threading.Thread(target=_serve, args=serving, daemon=True).start()
    print(listening.getsockname()[1], flush=True)
    for line in sys.stdin:
        (_open.clear if line.strip() == "cut" else _open.set)()
        print(line.strip(), flush=True)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
