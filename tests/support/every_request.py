"""Every kind of request and of work, well-formed and not, one after the other."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Awaitable, Callable

import pyfuse3
import trio

from fuseswap.filesystem.parameters import PARAMETERS
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.filesystem.tree import PAGE_BASE, PARAMS, STATS, Tree, param_inode, stat_inode
from fuseswap.transport.devfuse import DevFuse
from fuseswap.transport.pyfuse3 import TreeOperations
from fuseswap.transport.share import Share
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.fuse_requests import (
    ROOT,
    SET_SIZE,
    SWAPFILE,
    Op,
    fallocate_request,
    lseek_request,
    read_request,
    request,
    setattr_request,
    write_request,
)

PUNCH = 3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
FILE_PAGES = 4096
_STATISTICS = [stat_inode(row.name) for row in STATISTICS if not row.labels]
_PARAMETERS = [param_inode(row.name) for row in PARAMETERS]


class Answering(DevFuse):
    """Counts the requests that are not answered yet."""

    def __init__(self, fd: int, tree: Tree) -> None:
        super().__init__(fd, tree, share=Share(percent=100))  # time stands still there
        self.waiting = 0
        self.answered = trio.Event()

    def _reply(self, slot: int, reply: bytes) -> None:
        super()._reply(slot, reply)
        self.waiting -= 1
        self.answered.set()
        self.answered = trio.Event()


class Bodies:
    """What is written: of each kind of page, some again and again and some never before."""

    def __init__(self) -> None:
        self._chance = random.Random(1)
        kinds = (pages.compressible, pages.incompressible, pages.nearly_incompressible)
        self._pages = [make(seed) for seed in range(12) for make in kinds]
        self._pages += [pages.related(seed) for seed in range(12)]
        self._pages += [pages.filled(seed) for seed in range(4)]
        self._numbers = itertools.count(1)

    def page(self) -> bytes:
        page = self._chance.choice(self._pages)
        if self._chance.random() < 0.25:
            return page
        return next(self._numbers).to_bytes(8, "little") + page[8:]

    def mebibyte(self) -> bytes:
        some = b"".join(self.page() for _ in range(16))
        return some * 16 if self.number(16) == 0 else some + self._pages[-1] * 240

    def at(self, size: int = PAGE_SIZE) -> int:
        """Where in the file something of ``size`` may go, on a page."""
        return self._chance.randrange(FILE_PAGES - size // PAGE_SIZE + 1) * PAGE_SIZE

    def number(self, below: int) -> int:
        return self._chance.randrange(below)


def requests_of(bodies: Bodies) -> dict[str, Callable[[], bytes]]:
    """What the kernel sends, by kind."""

    def malformed() -> bytes:
        whole = bytearray(write_request(bodies.at(), bodies.page()))
        at = bodies.number(48)
        whole[at] ^= 1 << bodies.number(8)
        return bytes(whole[: 16 + bodies.number(len(whole) - 16)])

    def name(directory: int, text: str) -> bytes:
        return request(Op.LOOKUP, directory, text.encode() + b"\0")

    def statistic() -> int:
        return _STATISTICS[bodies.number(len(_STATISTICS))]

    def parameter() -> int:
        return _PARAMETERS[bodies.number(len(_PARAMETERS))]

    def page() -> int:
        return PAGE_BASE + bodies.number(FILE_PAGES)

    return {
        "read": lambda: read_request(bodies.at(), PAGE_SIZE),
        "wide read": lambda: read_request(bodies.at(65536), 65536),
        "odd read": lambda: read_request(bodies.at() + 100, 9000),
        "write": lambda: write_request(bodies.at(), bodies.page()),
        "partial write": lambda: write_request(bodies.at() + 100, b"x" * 50),
        "odd write": lambda: write_request(bodies.at(16384) + 100, bodies.page() * 2),
        "large write": lambda: write_request(bodies.at(MIB), bodies.mebibyte()),
        "write beyond the end": lambda: write_request(FILE_PAGES * PAGE_SIZE, bodies.page()),
        "discard": lambda: fallocate_request(PUNCH, bodies.at(), PAGE_SIZE),
        "wide discard": lambda: fallocate_request(PUNCH, bodies.at(65536), 65536),
        "partial discard": lambda: fallocate_request(PUNCH, bodies.at() + 100, 50),
        "statistic": lambda: read_request(0, 4096, inode=statistic()),
        "parameter": lambda: read_request(0, 4096, inode=parameter()),
        "a page explained": lambda: read_request(0, 4096, inode=page()),
        "bad value": lambda: write_request(0, b"nonsense\n", inode=parameter()),
        "statistic set": lambda: write_request(0, b"1\n", inode=statistic()),
        "lookup": lambda: name(ROOT, "swapfile"),
        "lookup of nothing": lambda: name(STATS, "nothing"),
        "getattr": lambda: request(Op.GETATTR, SWAPFILE, bytes(16)),
        "setattr": lambda: setattr_request(SWAPFILE, SET_SIZE, size=4096),
        "open": lambda: request(Op.OPEN, PARAMS, bytes(8)),
        "readdir": lambda: request(Op.READDIR, STATS, bytes(16) + b"\0\x10\0\0" + bytes(20)),
        "statfs": lambda: request(Op.STATFS, ROOT),
        "lseek": lambda: lseek_request(bodies.at(), os.SEEK_DATA),
        "fsync": lambda: request(Op.FSYNC, SWAPFILE, bytes(16)),
        "forget": lambda: request(Op.FORGET, SWAPFILE, bytes(8)),
        "no such thing": lambda: request(Op.IOCTL, SWAPFILE, bytes(32)),
        "malformed": malformed,
    }


def operations_of(
    bodies: Bodies, tree: TreeOperations
) -> dict[str, Callable[[], Awaitable[object]]]:
    """What libfuse calls, by kind."""
    swapfile = pyfuse3.FileHandleT(0)

    async def text(inode: int) -> None:
        handle = (await tree.open(pyfuse3.InodeT(inode), os.O_RDONLY, None)).fh
        await tree.read(handle, 0, 4096)
        await tree.release(handle)

    async def bad_value() -> None:
        handle = (await tree.open(pyfuse3.InodeT(_PARAMETERS[0]), os.O_WRONLY, None)).fh
        try:
            await tree.write(handle, 0, b"nonsense\n")
        finally:
            await tree.release(handle)

    return {
        "read": lambda: tree.read(swapfile, bodies.at(), PAGE_SIZE),
        "wide read": lambda: tree.read(swapfile, bodies.at(65536), 65536),
        "write": lambda: tree.write(swapfile, bodies.at(), bodies.page()),
        "partial write": lambda: tree.write(swapfile, bodies.at() + 100, b"x" * 50),
        "large write": lambda: tree.write(swapfile, bodies.at(MIB), bodies.mebibyte()),
        "statistic": lambda: text(_STATISTICS[bodies.number(len(_STATISTICS))]),
        "parameter": lambda: text(_PARAMETERS[bodies.number(len(_PARAMETERS))]),
        "bad value": bad_value,
        "lookup": lambda: tree.lookup(ROOT, b"swapfile", None),
        "lookup of nothing": lambda: tree.lookup(STATS, b"nothing", None),
        "getattr": lambda: tree.getattr(SWAPFILE, None),
        "statfs": lambda: tree.statfs(None),
        "fsync": lambda: tree.fsync(swapfile, False),
    }
