"""Valkey or Redis servers on loopback: one, or a cluster; killed, stopped and started by a test.

The program is redis-server.  Debian's redis-tools has it under the name of redis-check-rdb, and
starts no service.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_READY_S = 60.0
_SLOTS = 16384
_SETTINGS = {"maxmemory-policy": "noeviction", "maxmemory": "512mb"}
_OF_CLUSTERS = ("cluster-require-full-coverage", "no")


def server_program() -> str:
    """Its path; a test that has none fails, since ``scripts/install test`` brings it."""
    for name in ("valkey-server", "redis-server", "redis-check-rdb"):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("no redis-server; run: scripts/install test")


def free_ports(count: int) -> list[int]:
    """Not in use now, below those that the kernel gives away: the cluster's bus is 10000 above."""
    found: list[int] = []
    at = 10000 + os.getpid() % 100 * 150
    while len(found) < count:
        at += 1
        with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
            for port in (at, at + 10000):
                probe = opened.enter_context(socket.socket())
                probe.bind(("127.0.0.1", port))
            found.append(at)
    return found


def talk(port: int, *words: str | int, timeout_s: float = 5.0) -> Any:
    """One command, and its answer; an error raises `RuntimeError`."""
    line = f"*{len(words)}\r\n" + "".join(f"${len(str(w))}\r\n{w}\r\n" for w in words)
    with socket.create_connection(("127.0.0.1", port), timeout_s) as sock:
        sock.sendall(line.encode())
        with sock.makefile("rb") as file:
            return _parse(file)


def _parse(file: Any) -> Any:
    line = file.readline()
    if not line:
        raise ConnectionError("the server has closed")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise RuntimeError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return file.read(int(rest) + 2)[:-2].decode() if int(rest) >= 0 else None
    if kind == b"*":
        return [_parse(file) for _ in range(int(rest))]
    return rest.decode()


class Server:
    """One of them."""

    def __init__(
        self,
        directory: Path,
        port: int,
        *options: str,
        command: list[str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """``variables``: of its environment, beside ours."""
        self.port = port
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._command = command or [
            "redis-server",
            *("--port", str(port), "--bind", "127.0.0.1", "--protected-mode", "no"),
            *("--save", "", "--appendonly", "no", "--dir", str(directory)),
            *("--logfile", str(directory / "log"), "--repl-diskless-sync-delay", "0"),
            *(word for name, value in _SETTINGS.items() for word in (f"--{name}", value)),
            *options,
        ]
        self._environment = {**os.environ, **(variables or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, again with nothing in it."""
        self._process = subprocess.Popen(
            self._command, executable=server_program(), env=self._environment
        )
        try:
            wait_until(lambda: talk(self.port, "PING", timeout_s=1) == "PONG", f"port {self.port}")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """With SIGKILL."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """It stands still."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """It runs again, from the start where it was killed."""
        if self._process is None:
            self.start()
        os.kill(self.pid, signal.SIGCONT)

    def talk(self, *words: str | int) -> Any:
        """See `talk`."""
        return talk(self.port, *words)


class Cluster:
    """Three primaries with a replica each, all in sync."""

    def __init__(self, directory: Path, primaries: int = 3) -> None:
        ports = free_ports(2 * primaries)
        self.servers: list[Server] = []
        self._primaries = primaries
        try:
            for port in ports:
                self.servers.append(
                    Server(
                        directory / str(port),
                        port,
                        *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"),
                        *(f"--{_OF_CLUSTERS[0]}", _OF_CLUSTERS[1]),
                    )
                )
            self._join()
        except BaseException:
            self.kill()
            raise

    def _join(self) -> None:
        first = self.servers[0]
        for server in self.servers[1:]:
            first.talk("CLUSTER", "MEET", "127.0.0.1", server.port)
        for number, primary in enumerate(self.servers[: self._primaries]):
            begin = _SLOTS * number // self._primaries
            end = _SLOTS * (number + 1) // self._primaries - 1
            primary.talk("CLUSTER", "ADDSLOTSRANGE", begin, end)
        wait_until(self._all_know_all, "the cluster to meet")
        for number, replica in enumerate(self.servers[self._primaries :]):
            node = self.servers[number].talk("CLUSTER", "MYID")
            replica.talk("CLUSTER", "REPLICATE", node)
        wait_until(self.is_well, "the cluster")

    def _all_know_all(self) -> bool:
        counts = [s.talk("CLUSTER", "NODES").count("\n") for s in self.servers]
        return all(count == len(self.servers) for count in counts)

    def is_well(self) -> bool:
        """All slots are served, all replicas in sync, as all of them see it."""
        for server in self.servers:
            if "cluster_state:ok" not in server.talk("CLUSTER", "INFO"):
                return False
            slots = server.talk("CLUSTER", "SLOTS")
            if len(slots) != self._primaries or any(len(one) != 4 for one in slots):
                return False
            found = server.talk("INFO", "replication")
            if "role:slave" in found and "master_link_status:up" not in found:
                return False
        return True

    def make_well(self) -> None:
        """As it was at first, but for who is primary; and empty."""
        for server in self.servers:
            server.go_on()
            for name, value in _SETTINGS.items():
                server.talk("CONFIG", "SET", name, value)
            server.talk("CONFIG", "SET", *_OF_CLUSTERS)
        wait_until(self.is_well, "the cluster")
        for server in self.primaries:
            server.talk("FLUSHALL")

    @property
    def primaries(self) -> list[Server]:
        """Those that serve slots now."""
        found = {one[2][1] for one in self.servers[0].talk("CLUSTER", "SLOTS")}
        return [server for server in self.servers if server.port in found]

    @property
    def address(self) -> str:
        """For ``valkey://``; the first three of them."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:3])
        return f"valkey://{hosts}?cluster=yes"

    def primary_of(self, key: str) -> Server:
        """Who serves ``key`` now, as the others see it."""
        for server in self.servers:
            with contextlib.suppress(OSError, RuntimeError):
                slot = server.talk("CLUSTER", "KEYSLOT", key)
                for first, last, primary, *_ in server.talk("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(s for s in self.servers if s.port == primary[1])
        raise LookupError(key)

    def ports_of(self, primary: Server) -> list[int]:
        """``primary``, and its replica."""
        for _, _, *nodes in primary.talk("CLUSTER", "SLOTS"):
            if nodes[0][1] == primary.port:
                return [node[1] for node in nodes]
        raise LookupError(primary.port)

    def kill(self) -> None:
        """All of it."""
        for server in self.servers:
            server.kill()


@contextlib.contextmanager
def one_server(directory: Path, *options: str) -> Iterator[Server]:
    """Ended at the end."""
    server = Server(directory, free_ports(1)[0], *options)
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def a_cluster(directory: Path) -> Iterator[Cluster]:
    """Ended at the end."""
    cluster = Cluster(directory)
    try:
        yield cluster
    finally:
        cluster.kill()


@contextlib.contextmanager
def a_sentinel(directory: Path, name: str, primary: Server) -> Iterator[Server]:
    """Watches ``primary``, alone; its word is enough after 1 s.  Ended at the end."""
    directory.mkdir()
    port = free_ports(1)[0]
    config = directory / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\nlogfile {directory}/log\n"
        f"sentinel monitor {name} 127.0.0.1 {primary.port} 1\n"
        f"sentinel down-after-milliseconds {name} 1000\n"
        f"sentinel failover-timeout {name} 5000\n"
    )
    sentinel = Server(directory, port, command=["redis-sentinel", str(config)])
    try:
        yield sentinel
    finally:
        sentinel.kill()


def wait_until(holds: Any, what: str, within_s: float = _READY_S) -> None:
    """Look every 50 ms; errors of a server that is not there yet count as no."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(OSError, RuntimeError):
            if holds():
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within_s:.0f} s for {what}")
        time.sleep(0.05)
