"""Devices of ours with one tier: a file, or a server on this machine.

The server is a redis-server of its own for each device.  Between it and the device there may be a
network: a proxy that passes everything on later (``tests/support/delaying_proxy.py``).  It has a
processor's work of its own, which a network would not take from this machine.  Both lock their
memory: of another machine's server no page would lie on this swap.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from fuseswap.units import MIB
from tests.benchmarks.peers import DISK, Fuseswap
from tests.support.delaying_proxy import Proxy
from tests.support.locked_memory import locking
from tests.support.valkey_cluster import Server, free_ports


class TierPeer(Fuseswap):
    """With a loop device, a pool of ``pool_bytes``, and one tier as large as the device."""

    def __init__(self, name: str, size_bytes: int, pool_bytes: int) -> None:
        super().__init__(name, size_bytes, loop=True, pool_limit_bytes=pool_bytes)

    def describe(self) -> str:
        """With its tier."""
        return f"{super().describe()}, tier: {self._about()}"

    def _about(self) -> str:
        raise NotImplementedError

    def _tier(self) -> str:
        """The words for `up`; what they need is made."""
        raise NotImplementedError

    def up_command(self) -> list[str]:
        """With the tier, which is made first."""
        size = f"size={self.size_bytes // MIB}M"
        return [*super().up_command(), "--tier", f"{self._tier()},{size}"]


class FileTierPeer(TierPeer):
    """A file on the disk of the other peers."""

    def __init__(self, name: str, size_bytes: int, pool_bytes: int, *, encrypt: bool) -> None:
        super().__init__(name, size_bytes, pool_bytes)
        self._encrypt = encrypt

    def _about(self) -> str:
        return f"a file in {DISK}, {'encrypted' if self._encrypt else 'encrypt=no'}"

    def _tier(self) -> str:
        path = Path(DISK) / f"fuseswap-bench-{self.name}.tier"
        return f"file:{path},encrypt={'yes' if self._encrypt else 'no'}"  # `down` removes it


class RemotePeer(TierPeer):
    """A server, over loopback, or over ``delay_us`` each way."""

    def __init__(self, name: str, size_bytes: int, pool_bytes: int, *, delay_us: int = 0) -> None:
        super().__init__(name, size_bytes, pool_bytes)
        self._delay_us = delay_us
        self._directory: Path | None = None
        self._server: Server | None = None
        self._proxy: Proxy | None = None

    def _about(self) -> str:
        delay = f", {self._delay_us} us each way" if self._delay_us else ""
        return f"a redis-server over loopback{delay}"

    def _tier(self) -> str:
        self._directory = Path(tempfile.mkdtemp(prefix="fuseswap-bench-server-"))
        limit = str(2 * self.size_bytes)
        self._server = Server(
            self._directory, free_ports(1)[0], "--maxmemory", limit, variables=locking()
        )
        port = self._server.port
        if self._delay_us:
            self._proxy = Proxy(port, self._delay_us, variables=locking())
            port = self._proxy.port
        return f"valkey://127.0.0.1:{port}"

    def teardown(self) -> None:
        """The device, then the network, then the server."""
        try:
            super().teardown()
        finally:
            if self._proxy is not None:
                self._proxy.close()
                self._proxy = None
            if self._server is not None:
                self._server.kill()
                self._server = None
            if self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)
                self._directory = None
