"""One face for both adapters, so that the same tests run on both.

Errors come as `OSError` with the errno the caller of the system call would see.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Protocol

import pyfuse3

from fuseswap.transport.pyfuse3 import TreeOperations
from tests.support.fuse_requests import (
    ROOT,
    SET_MODE,
    SET_MTIME,
    SET_SIZE,
    FakeKernel,
    Op,
    Reply,
    parse_attr,
    read_request,
    request,
    setattr_request,
    write_request,
)

_SETATTR_FIELDS = ("mode", "uid", "gid", "size", "atime", "mtime", "ctime")


@dataclass(frozen=True, slots=True)
class Seen:
    """What stat(2) would show."""

    inode: int
    mode: int
    size: int
    blocks: int
    links: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What statvfs(3) would show."""

    block_size: int
    blocks: int
    blocks_free: int
    files: int
    name_max: int


class Client(Protocol):
    """The system calls both adapters serve."""

    async def lookup(self, parent: int, name: str) -> Seen: ...
    async def getattr(self, inode: int) -> Seen: ...
    async def truncate(self, inode: int, size: int) -> Seen: ...
    async def chmod(self, inode: int, mode: int) -> Seen: ...
    async def touch(self, inode: int) -> Seen: ...
    async def change(self, operation: str) -> None: ...
    async def open(self, inode: int, flags: int) -> int: ...
    async def opendir(self, inode: int) -> None: ...
    async def read(self, inode: int, handle: int, offset: int, size: int) -> bytes: ...
    async def write(self, inode: int, handle: int, offset: int, data: bytes) -> int: ...
    async def flush(self, inode: int, handle: int) -> None: ...
    async def fsync(self, inode: int, handle: int) -> None: ...
    async def release(self, inode: int, handle: int) -> None: ...
    async def statfs(self) -> Usage: ...


class DevfuseClient:
    """Speaks the wire format."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    def _ask(self, message: bytes) -> Reply:
        reply = self._kernel.ask(message)
        if reply.error:
            raise OSError(reply.error, os.strerror(reply.error))
        return reply

    def _seen(self, raw: bytes) -> Seen:
        attr = parse_attr(raw)
        return Seen(attr.inode, attr.mode, attr.size, attr.blocks, attr.links)

    async def lookup(self, parent: int, name: str) -> Seen:
        return self._seen(self._ask(request(Op.LOOKUP, parent, name.encode() + b"\0")).body[40:])

    async def getattr(self, inode: int) -> Seen:
        return self._seen(self._ask(request(Op.GETATTR, inode, bytes(16))).body[16:])

    async def truncate(self, inode: int, size: int) -> Seen:
        return self._seen(self._ask(setattr_request(inode, SET_SIZE, size=size)).body[16:])

    async def chmod(self, inode: int, mode: int) -> Seen:
        return self._seen(self._ask(setattr_request(inode, SET_MODE, mode=mode)).body[16:])

    async def touch(self, inode: int) -> Seen:
        return self._seen(self._ask(setattr_request(inode, SET_MTIME)).body[16:])

    async def change(self, operation: str) -> None:
        """One of the names in a directory, as ``operation`` does; of any name."""
        self._ask(request(Op[operation.upper()], ROOT, bytes(16) + b"new\0"))

    async def open(self, inode: int, flags: int) -> int:
        handle, _, _ = struct.unpack(
            "<QII", self._ask(request(Op.OPEN, inode, struct.pack("<II", flags, 0))).body
        )
        return int(handle)

    async def opendir(self, inode: int) -> None:
        self._ask(request(Op.OPENDIR, inode, bytes(8)))

    async def read(self, inode: int, handle: int, offset: int, size: int) -> bytes:
        return self._ask(read_request(offset, size, inode=inode, handle=handle)).body

    async def write(self, inode: int, handle: int, offset: int, data: bytes) -> int:
        reply = self._ask(write_request(offset, data, inode=inode, handle=handle))
        size, _ = struct.unpack("<II", reply.body)
        return int(size)

    async def flush(self, inode: int, handle: int) -> None:
        self._ask(request(Op.FLUSH, inode, struct.pack("<QIIQ", handle, 0, 0, 0)))

    async def fsync(self, inode: int, handle: int) -> None:
        self._ask(request(Op.FSYNC, inode, struct.pack("<QII", handle, 0, 0)))

    async def release(self, inode: int, handle: int) -> None:
        self._ask(request(Op.RELEASE, inode, struct.pack("<QIIQ", handle, 0, 0, 0)))

    async def statfs(self) -> Usage:
        fields = struct.unpack("<QQQQQIIII24x", self._ask(request(Op.STATFS, ROOT)).body)
        return Usage(fields[5], fields[0], fields[1], fields[3], fields[6])


class _Context:
    """An `OSError` where pyfuse3 has its own."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, pyfuse3.FUSEError):
            raise OSError(exc.errno, os.strerror(exc.errno)) from None


_errors = _Context()


class Pyfuse3Client:
    """Calls the operations as pyfuse3's C part would."""

    def __init__(self, operations: TreeOperations) -> None:
        self._operations = operations

    def _seen(self, entry: pyfuse3.EntryAttributes) -> Seen:
        return Seen(entry.st_ino, entry.st_mode, entry.st_size, entry.st_blocks, entry.st_nlink)

    async def lookup(self, parent: int, name: str) -> Seen:
        with _errors:
            return self._seen(await self._operations.lookup(parent, name.encode(), None))

    async def getattr(self, inode: int) -> Seen:
        with _errors:
            return self._seen(await self._operations.getattr(inode, None))

    async def _setattr(self, inode: int, changed: str, **values: int) -> Seen:
        fields = {f"update_{name}": name == changed for name in _SETATTR_FIELDS}
        attributes = SimpleNamespace(**values)
        with _errors:
            found = await self._operations.setattr(
                inode, attributes, SimpleNamespace(**fields), None, None
            )
            return self._seen(found)

    async def truncate(self, inode: int, size: int) -> Seen:
        return await self._setattr(inode, "size", st_size=size)

    async def chmod(self, inode: int, mode: int) -> Seen:
        return await self._setattr(inode, "mode", st_mode=mode)

    async def touch(self, inode: int) -> Seen:
        return await self._setattr(inode, "mtime")

    async def change(self, operation: str) -> None:
        with _errors:
            await getattr(self._operations, operation)(ROOT, b"new", None)

    async def open(self, inode: int, flags: int) -> int:
        with _errors:
            return int((await self._operations.open(inode, flags, None)).fh)

    async def opendir(self, inode: int) -> None:
        with _errors:
            await self._operations.opendir(inode, None)

    async def read(self, inode: int, handle: int, offset: int, size: int) -> bytes:
        with _errors:
            return await self._operations.read(handle, offset, size)

    async def write(self, inode: int, handle: int, offset: int, data: bytes) -> int:
        with _errors:
            return await self._operations.write(handle, offset, data)

    async def flush(self, inode: int, handle: int) -> None:
        with _errors:
            await self._operations.flush(handle)

    async def fsync(self, inode: int, handle: int) -> None:
        with _errors:
            await self._operations.fsync(handle, False)

    async def release(self, inode: int, handle: int) -> None:
        with _errors:
            await self._operations.release(handle)

    async def statfs(self) -> Usage:
        with _errors:
            data = await self._operations.statfs(None)
        return Usage(data.f_bsize, data.f_blocks, data.f_bfree, data.f_files, data.f_namemax)
