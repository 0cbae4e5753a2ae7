"""Remote tiers as the supervisor makes them: socket, memory, and a process that comes and goes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import trio

from fuseswap.tiers import remote_wire as wire
from fuseswap.tiers.remote_identity import new_identity
from fuseswap.tiers.remote_tier import RemoteTier
from fuseswap.tiers.tier import TIER_TIMEOUT_S
from fuseswap.tiers.tier_process import Setup, TierProcess
from tests.support.tier_clients import CLIENTS

TREE = Path(__file__).resolve().parents[2]


class TierHost:
    """What outlives worker and process; ``kind`` may be one of `tests.support.tier_clients`."""

    def __init__(self, kind: str, rest: str = "", **setup: Any) -> None:
        self.memory = os.memfd_create("tier")
        extent_count = setup.pop("extent_count", 64)
        os.ftruncate(self.memory, wire.memory_bytes(extent_count))
        self.worker_end, self.process_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.worker_end.setblocking(False)
        self.identity = new_identity("swap0", "tier0")
        self._setup = {
            "kind": kind,
            "name": "tier0",
            "rest": rest,
            "identity": self.identity._asdict(),
            "extent_count": extent_count,
            "socket": self.process_end.fileno(),
            "memory": self.memory,
            "locked": False,
            **setup,
        }
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> int:
        """Start a process; returns its pid."""
        assert self.process is None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.tier_clients", json.dumps(self._setup)],
            pass_fds=(self.process_end.fileno(), self.memory),
            cwd=TREE,
            text=True,
        )
        return self.process.pid

    def process_here(self) -> TierProcess:
        """One without a process, for the test's own loop."""
        here = {"socket": os.dup(self.process_end.fileno()), "memory_limit_bytes": 1 << 40}
        setup = Setup(**{**self._setup, **here})
        return TierProcess(setup, CLIENTS[setup.kind](setup.client_setup()))

    def kill(self) -> None:
        """With SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """It stands still."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It runs again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def wait(self) -> int:
        """Until it has ended by itself; its exit status."""
        assert self.process is not None
        status = self.process.wait(30)
        self.process = None
        return status

    def close(self) -> None:
        self.kill()
        os.close(self.memory)
        self.worker_end.close()
        self.process_end.close()

    def tier(self, **settings: Any) -> RemoteTier:
        """What a worker makes of it; ``timeout_s``: that of reads."""
        timeout_s = settings.pop("timeout_s", TIER_TIMEOUT_S)
        count = self._setup["extent_count"]
        settings.setdefault("volatile", True)
        tier = RemoteTier("tier0", self.worker_end, self.memory, count, **settings)
        tier.set_timeout(timeout_s)
        return tier


@contextlib.contextmanager
def tier_host(kind: str, rest: str = "", **setup: Any) -> Iterator[TierHost]:
    """With its process."""
    host = TierHost(kind, rest, **setup)
    try:
        host.start()
        yield host
    finally:
        host.close()


@contextlib.asynccontextmanager
async def worker_of(host: TierHost, **settings: Any) -> AsyncIterator[RemoteTier]:
    """A worker's tier, with its task, until the worker ends."""
    tier = host.tier(**settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tier.run)
        yield tier
        nursery.cancel_scope.cancel()
