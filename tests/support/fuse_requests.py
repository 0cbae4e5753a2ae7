"""The kernel's side of /dev/fuse: builds requests by struct, and takes replies apart.

Written from linux/fuse.h on its own, so that a slip in ``fuseswap/transport/fuse_protocol.py`` does
not hide itself.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from enum import IntEnum

from fuseswap.filesystem.tree import Tree
from fuseswap.transport.devfuse import DevFuse
from fuseswap.transport.share import Share

ROOT = 1
SWAPFILE = 2


class Op(IntEnum):
    """enum fuse_opcode, as far as the tests need it."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    GETXATTR = 22
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    LSEEK = 46


SILENT = frozenset({Op.FORGET, Op.INTERRUPT, Op.BATCH_FORGET})

HEADER = struct.Struct("<IIQQIIIHH")  # len opcode unique nodeid uid gid pid extlen padding
REPLY = struct.Struct("<IiQ")  # len error unique
READ_WRITE = struct.Struct("<QQIIQII")  # fh offset size read/write_flags lock_owner flags padding
SETATTR = struct.Struct("<IIQQQQQQIIIIIIII")  # valid pad fh size lock a/m/c times, nsec, mode ...
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
FALLOCATE = struct.Struct("<QQQII")  # fh offset length mode padding
LSEEK = struct.Struct("<QQII")  # fh offset whence padding
INIT = struct.Struct("<IIII")  # major minor max_readahead flags
DIRENT = struct.Struct("<QQII")  # ino off namelen type

# SETATTR's valid bits.
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_MTIME = 1, 2, 4, 8, 32


def request(opcode: int, inode: int = 0, body: bytes = b"", unique: int = 7) -> bytes:
    """One well-formed request."""
    length = HEADER.size + len(body)
    return HEADER.pack(length, opcode, unique, inode, 0, 0, os.getpid(), 0, 0) + body


def read_request(offset: int, size: int, *, inode: int = SWAPFILE, handle: int = 0) -> bytes:
    return request(Op.READ, inode, READ_WRITE.pack(handle, offset, size, 0, 0, 0, 0))


def write_request(offset: int, data: bytes, *, inode: int = SWAPFILE, handle: int = 0) -> bytes:
    body = READ_WRITE.pack(handle, offset, len(data), 0, 0, 0, 0) + data
    return request(Op.WRITE, inode, body)


def setattr_request(inode: int, valid: int, *, size: int = 0, mode: int = 0) -> bytes:
    body = SETATTR.pack(valid, 0, 0, size, 0, 0, 0, 0, 0, 0, 0, mode, 0, 0, 0, 0)
    return request(Op.SETATTR, inode, body)


def fallocate_request(mode: int, offset: int, length: int, inode: int = SWAPFILE) -> bytes:
    return request(Op.FALLOCATE, inode, FALLOCATE.pack(0, offset, length, mode, 0))


def lseek_request(offset: int, whence: int, inode: int = SWAPFILE) -> bytes:
    return request(Op.LSEEK, inode, LSEEK.pack(0, offset, whence, 0))


def init_request(
    major: int = 7, minor: int = 41, flags: int = 0xFFFFFFFF, flags2: int = 0
) -> bytes:
    body = INIT.pack(major, minor, 131072, flags) + struct.pack("<I44x", flags2)
    return request(Op.INIT, 0, body)


@dataclass(frozen=True, slots=True)
class Reply:
    """``error`` is a positive errno, 0 for success."""

    error: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Attr:
    """What struct fuse_attr says."""

    inode: int
    size: int
    blocks: int
    mode: int
    links: int


def parse_attr(raw: bytes) -> Attr:
    fields = ATTR.unpack(raw)
    return Attr(fields[0], fields[1], fields[2], fields[9], fields[10])


class FakeKernel:
    """Puts requests into a `DevFuse` that is mounted nowhere.  Close it when done."""

    def __init__(self, tree: Tree, share: Share | None = None) -> None:
        """No request waits but by a ``share`` that says so, and a discard takes one step."""
        steps = tree.device.frontswap.invalidation
        steps.step_pages, steps.step_ns = tree.device.frontswap.slots.page_count, 1 << 62
        self._fd = os.open("/dev/null", os.O_RDWR)
        self.transport = DevFuse(self._fd, tree, share=share or Share(percent=100))
        self._view = memoryview(self.transport.buffer)

    def close(self) -> None:
        os.close(self._fd)

    def raw(self, message: bytes) -> bytes | None:
        """The reply's bytes, unchecked."""
        self._view[: len(message)] = message
        return self.transport.answer(len(message))

    def ask(self, message: bytes) -> Reply:
        """The reply to a request that has one; checks that it is well-formed."""
        raw = self.raw(message)
        assert raw is not None, "no answer"
        length, error, unique = REPLY.unpack_from(raw)
        assert length == len(raw)
        assert unique == HEADER.unpack_from(message)[2]
        assert -512 < error <= 0
        assert not error or length == REPLY.size, "an error carries no body"
        return Reply(-error, raw[REPLY.size :])

    def tell(self, message: bytes) -> None:
        """A request that must not be answered."""
        assert self.raw(message) is None
