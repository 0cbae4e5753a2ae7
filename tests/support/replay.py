"""Workers one after another on one FUSE session, and a kernel that sends again."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.filesystem.tree import Tree
from fuseswap.store.superblock import FuseSession
from fuseswap.transport import fuse_protocol
from fuseswap.transport.devfuse import DevFuse
from fuseswap.transport.share import Share
from fuseswap.units import MIB
from tests.support.fake_tier import FakeTier
from tests.support.fuse_requests import REPLY
from tests.support.memory_stores import SharedMemory
from tests.support.tiered_devices import EXTENTS, TIERED, Tiered

OLD = FuseSession(
    7, 38, fuse_protocol.MAX_PAGES_FLAG, fuse_protocol.MAX_WRITE, fuse_protocol.MAX_PAGES
)


class Kernel:
    """One message a read and a write, as /dev/fuse has it."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        for end in (self.ours, self.theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)

    def send(self, unique: int, message: bytes) -> None:
        self.ours.send(message[:8] + struct.pack("<Q", unique) + message[16:])

    def raw(self) -> Iterator[bytes]:
        while True:
            try:
                yield self.ours.recv(2 * MIB)
            except BlockingIOError:
                return

    def replies(self) -> list[tuple[int, int, bytes]]:
        """``(unique, errno, body)`` of each reply that has come."""
        found = []
        for reply in self.raw():
            length, error, unique = REPLY.unpack_from(reply)
            assert length == len(reply)
            found.append((unique, -error, reply[REPLY.size :]))
        return found

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


class Host:
    """What outlives a worker: the memory, the tier, the connection."""

    def __init__(self) -> None:
        self.memory = SharedMemory(TIERED)
        self.tier = FakeTier(EXTENTS)
        self.kernel = Kernel()
        self.memory.attach().session = OLD

    def worker(self, *, resend: bool = True, share: Share | None = None) -> tuple[Tiered, DevFuse]:
        """The next one; without a ``share`` no request waits for its turn."""
        tiered = Tiered(self.memory, self.tier)
        fd = self.kernel.theirs.fileno()
        share = share or Share(percent=100)
        return tiered, DevFuse(fd, Tree(tiered.device), resend=resend, share=share)

    def close(self) -> None:
        self.kernel.close()
        self.memory.close()


async def live(transport: DevFuse) -> None:
    """Serve until all that came is answered or waits; then the worker is gone."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.serve)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
