"""The second transport: the same tree through pyfuse3's Operations and libfuse.

For comparison, and for hosts where libfuse is wanted.  It has limits that
``devfuse`` has not, and ``status`` says so.  pyfuse3 has no handler for fallocate, so
discards never arrive and freed pages stay in memory until they are overwritten.  It
cannot resume after a crash, and costs about four times the processor time a request.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter_ns
from typing import Any, NoReturn

import pyfuse3
import trio

from fuseswap.errors import Deferred, FuseswapError, kept
from fuseswap.filesystem.open_files import OpenTexts
from fuseswap.filesystem.tree import SWAPFILE, Tree
from fuseswap.transport.errnos import errno_of
from fuseswap.transport.share import Share

_ENTRY_TIMEOUT_S = 3600.0
_ATTR_TIMEOUT_S = 1.0
_SWAPFILE_HANDLE = pyfuse3.FileHandleT(0)


class TreeOperations(pyfuse3.Operations):
    """One method an operation; each translates and asks the tree."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, tree: Tree, share: Share | None = None) -> None:
        """``share``: of the time, for other requests than the swapfile's."""
        super().__init__()
        self._share = share or Share()
        self._tree = tree
        self._texts = OpenTexts(tree)
        self._counters = tree.device.transport
        self._slowpath = tree.device.pending_io
        self._latency = tree.device.latency

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Count the request and turn fuseswap's errors into FUSE's."""
        self._counters.requests += 1
        try:
            yield
        except pyfuse3.FUSEError:
            raise
        except Exception as exc:
            code = errno_of(exc)
            if code != errno.ENOENT:
                self._counters.failed_requests += 1
            raise pyfuse3.FUSEError(code) from (exc if isinstance(exc, FuseswapError) else None)

    @asynccontextmanager
    async def _sharing(self) -> AsyncIterator[None]:
        """The same, for what is not the swapfile's: it may have to wait for its turn."""
        while self._share.is_spent:
            await trio.sleep(self._share.wait_s())
        began_ns = self._share.now_ns()
        try:
            with self._answering():
                yield
        finally:
            self._share.spend_since(began_ns)

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        found = self._tree.attributes(inode)
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(inode)
        entry.st_mode = pyfuse3.ModeT(found.mode)
        entry.st_nlink = found.links
        entry.st_uid = self._tree.uid
        entry.st_gid = self._tree.gid
        entry.st_size = found.size_bytes
        entry.st_blocks = found.blocks
        entry.st_blksize = 4096
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = self._tree.created_ns
        entry.entry_timeout = _ENTRY_TIMEOUT_S
        entry.attr_timeout = _ATTR_TIMEOUT_S
        return entry

    async def lookup(self, parent_inode: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        async with self._sharing():
            return self._attributes(self._tree.lookup(parent_inode, os.fsdecode(name)))

    async def getattr(self, inode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        if inode == SWAPFILE:
            with self._answering():
                return self._attributes(inode)
        async with self._sharing():
            return self._attributes(inode)

    async def setattr(
        self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        async with self._sharing():
            times = (fields.update_atime or fields.update_mtime) and not fields.update_size
            if fields.update_mode or fields.update_uid or fields.update_gid or times:
                raise pyfuse3.FUSEError(errno.EPERM)
            if fields.update_size:
                self._tree.resize(inode, attr.st_size)
            return self._attributes(inode)

    async def opendir(self, inode: int, ctx: Any) -> pyfuse3.FileHandleT:
        async with self._sharing():
            self._tree.entries(inode)
            return pyfuse3.FileHandleT(inode)

    async def readdir(self, fh: int, start_id: int, token: Any) -> None:
        async with self._sharing():
            entries = self._tree.entries(fh)
            for position, entry in enumerate(entries[start_id:], start=start_id + 1):
                attributes = self._attributes(entry.inode)
                if not pyfuse3.readdir_reply(token, entry.name.encode(), attributes, position):
                    return

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        if inode == SWAPFILE:
            with self._answering():
                if flags & os.O_TRUNC:
                    self._tree.resize(inode, 0)
                return pyfuse3.FileInfo(fh=_SWAPFILE_HANDLE, direct_io=True)
        async with self._sharing():
            readable = flags & os.O_ACCMODE != os.O_WRONLY
            handle = self._texts.open(inode, readable=readable)
            return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle), direct_io=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        if fh == _SWAPFILE_HANDLE:
            with self._answering():
                began = perf_counter_ns()
                try:
                    found = self._tree.swapfile.read(off, size)
                except Deferred as exc:
                    loads = self._latency.of_load(exc)
                else:
                    self._latency.add_load(perf_counter_ns() - began)
                    return found
                try:
                    return await self._slowpath.read(off, size)
                finally:
                    loads.add(perf_counter_ns() - began)
        async with self._sharing():
            return self._texts.read(fh, self._texts.inode_of(fh), off, size)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        if fh == _SWAPFILE_HANDLE:
            with self._answering():
                size = self._tree.swapfile.fitting(off, len(buf))
                await self._write_swapfile(off, memoryview(buf)[:size])
                return size
        async with self._sharing():
            self._tree.write_text(self._texts.inode_of(fh), off, buf)
        return len(buf)

    async def _write_swapfile(self, offset: int, data: memoryview) -> None:
        tried: Deferred | None = None
        began = perf_counter_ns()
        try:
            if not self._slowpath.has_to_wait(offset, len(data)):
                self._tree.swapfile.write(offset, data)
                self._latency.add_store(perf_counter_ns() - began)
                return
        except Deferred as exc:
            tried = kept(exc)
        try:
            await self._slowpath.write(offset, data, tried)
        finally:
            self._latency.waited.add(perf_counter_ns() - began)

    async def _refuse(self, *_: object) -> NoReturn:
        """What the names and directories are is settled: EPERM, and not ENOSYS."""
        raise pyfuse3.FUSEError(errno.EPERM)

    # Each has arguments of its own, which do not matter.
    _any: Any = _refuse
    create = mkdir = mknod = unlink = rmdir = symlink = rename = link = _any

    async def release(self, fh: int) -> None:
        with self._answering():
            self._texts.release(fh)

    async def flush(self, fh: int) -> None:
        with self._answering():
            pass  # a store is complete before it is answered

    async def fsync(self, fh: int, datasync: bool) -> None:
        await self.flush(fh)

    async def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        async with self._sharing():
            usage = self._tree.usage()
            data = pyfuse3.StatvfsData()
            data.f_bsize = data.f_frsize = 4096
            data.f_blocks = usage.blocks
            data.f_bfree = data.f_bavail = usage.blocks_free
            data.f_files = data.f_ffree = data.f_favail = 0  # df -i: not of this kind
            data.f_namemax = 255
            return data


class Pyfuse3:
    """Serves ``tree`` through libfuse on a descriptor that is mounted already."""

    def __init__(self, fd: int, tree: Tree) -> None:
        options = set(pyfuse3.default_options)
        options -= {"default_permissions"}  # a mount option, and the mount is made
        # /dev/fd/N is libfuse's syntax for a descriptor somebody else mounted.
        pyfuse3.init(TreeOperations(tree), f"/dev/fd/{fd}", options)

    async def serve(self) -> None:
        """Answer until the file system is unmounted."""
        try:
            await pyfuse3.main()
        finally:
            pyfuse3.close(unmount=False)
