"""The nearest thing in user space: nbdfuse over ``nbdkit memory allocator=zstd``.

Two servers: nbdkit keeps the compressed pages in memory and listens on a unix socket,
nbdfuse shows them as a file.  Both run in the foreground as our children, so they are
ended by their pids; nbdkit ends by itself should the benchmark be killed.

All lock their memory: a page of theirs may not lie on the swap that they serve.

Or with a network between both (`DelayedNbdfuse`), and a loop device on the file for swap:

    loop -> nbdfuse -> delaying proxy -> nbdkit
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.linux import loop
from tests.benchmarks import command
from tests.benchmarks.peers import Peer
from tests.support.delaying_proxy import Proxy
from tests.support.locked_memory import locking
from tests.support.valkey_cluster import free_ports

_START_TIMEOUT_S = 20.0


class Nbdfuse(Peer):
    """A file of ``size_bytes`` with multi-connection, as nbdfuse does by default."""

    def __init__(self, name: str, size_bytes: int) -> None:
        super().__init__(name, size_bytes)
        self._directory: Path | None = None
        self._servers: list[subprocess.Popen[bytes]] = []

    @property
    def path(self) -> str:
        """The file nbdfuse shows."""
        return self.file

    @property
    def file(self) -> str:
        """The same."""
        return str(self._mountpoint / "file")

    @property
    def _mountpoint(self) -> Path:
        return (self._directory or Path("/nonexistent")) / "mnt"

    def describe(self) -> str:
        """Both servers."""
        return "nbdfuse on 'nbdkit memory allocator=zstd', file"

    def prepare(self) -> None:
        """Start both and wait until the mount shows up, without touching it."""
        self._directory = Path(tempfile.mkdtemp(prefix="fuseswap-bench-nbd-"))
        self._mountpoint.mkdir()
        self._start("nbdfuse", self.file, *self._serve(self._directory))
        self._wait_until(self._is_mounted)

    def _serve(self, directory: Path) -> tuple[str, ...]:
        """Start nbdkit; returns how nbdfuse finds it."""
        where = directory / "socket"
        self._start_nbdkit("--unix", str(where))
        self._wait_until(where.exists)
        return "--unix", str(where)

    def _start_nbdkit(self, *where: str) -> None:
        self._start(
            "nbdkit", "--swap", "--foreground", "--exit-with-parent", *where,
            "memory", str(self.size_bytes), "allocator=zstd",
        )  # fmt: skip

    def teardown(self) -> None:
        """Unmount (lazily where it is busy), end both, delete the directory."""
        if self._directory is None:
            return
        if self._is_mounted():
            try:
                command.run(("umount", str(self._mountpoint)), timeout_s=10.0)
            except HostError:
                command.run(("umount", "--lazy", str(self._mountpoint)), timeout_s=10.0)
        while self._servers:
            command.stop(self._servers.pop())
        for path in ("socket", "log"):
            (self._directory / path).unlink(missing_ok=True)
        self._mountpoint.rmdir()
        self._directory.rmdir()
        self._directory = None

    def _start(self, *arguments: str) -> None:
        assert self._directory is not None
        self._servers.append(command.start(arguments, self._directory / "log", locking()))

    def _wait_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not done():
            server = self._servers[-1]
            if server.poll() is not None or time.monotonic() > deadline:
                raise HostError(f"{server.args!r} did not start: {self._last_words()}")
            time.sleep(0.02)

    def _last_words(self) -> str:
        assert self._directory is not None
        with contextlib.suppress(OSError, IndexError):
            return (self._directory / "log").read_text().splitlines()[-1]
        return "it said nothing"

    def _is_mounted(self) -> bool:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        return any(line.split()[1] == str(self._mountpoint) for line in mounts)


class DelayedNbdfuse(Nbdfuse):
    """The same over TCP, each direction delayed by ``delay_us``; with a loop device."""

    def __init__(self, name: str, size_bytes: int, delay_us: int) -> None:
        super().__init__(name, size_bytes)
        self._delay_us = delay_us
        self._proxy: Proxy | None = None
        self._loop = ""

    @property
    def path(self) -> str:
        """The loop device."""
        return self._loop

    def describe(self) -> str:
        """What is between both servers, and the way in."""
        return (
            f"nbdfuse on 'nbdkit memory allocator=zstd' over TCP, {self._delay_us} us each way; "
            "loop device on it"
        )

    def prepare(self) -> None:
        """See `Peer`."""
        super().prepare()
        self._loop = loop.attach(self.file)

    def _serve(self, directory: Path) -> tuple[str, ...]:
        (port,) = free_ports(1)
        self._start_nbdkit("--ipaddr", "127.0.0.1", "--port", str(port))
        self._wait_until(lambda: _listens(port))
        self._proxy = Proxy(port, self._delay_us, variables=locking())
        return (f"nbd://127.0.0.1:{self._proxy.port}",)

    def teardown(self) -> None:
        """See `Peer`."""
        try:
            if self._loop:
                loop.detach(self._loop)
                self._loop = ""
        finally:
            super().teardown()
            if self._proxy is not None:
                self._proxy.close()
                self._proxy = None


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False
