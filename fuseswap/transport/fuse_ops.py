"""Every FUSE request but READ and WRITE: decode, ask the tree, encode.

One method an opcode, in a table.  Each takes the request's body (a memoryview
that is only valid during the call) and returns the reply's body, or raises.
An opcode without a row is ENOSYS, which the kernel remembers.  A body that is
too short raises `struct.error`, which the transport answers with EINVAL.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.open_files import OpenTexts
from fuseswap.filesystem.tree import SWAPFILE, Attributes, Entry, Tree
from fuseswap.store.superblock import FuseSession
from fuseswap.transport import fuse_protocol
from fuseswap.transport.fuse_protocol import Opcode

# Names and the swapfile's attributes never change; a number in stats/ always does.
_ENTRY_VALID_S = 3600
_ATTR_VALID_S = 1
_MAX_BACKGROUND = 256
_CONGESTION = 192

_FIXED = fuse_protocol.FATTR_MODE | fuse_protocol.FATTR_UID | fuse_protocol.FATTR_GID
_TIMES = fuse_protocol.FATTR_ATIME | fuse_protocol.FATTR_MTIME

WANTED_FLAGS = (
    fuse_protocol.ASYNC_READ
    | fuse_protocol.BIG_WRITES
    | fuse_protocol.ASYNC_DIO
    | fuse_protocol.PARALLEL_DIROPS
    | fuse_protocol.MAX_PAGES_FLAG
    | fuse_protocol.INIT_EXT
    | fuse_protocol.HAS_RESEND
)


class Unsupported(Exception):
    """The opcode is not implemented; answered with ``code`` (ENOSYS, EOPNOTSUPP)."""

    def __init__(self, code: int = errno.ENOSYS) -> None:
        super().__init__(os.strerror(code))
        self.code = code


class Requests:
    """Answers over one `Tree`; without ``resend`` INIT does not settle `HAS_RESEND`."""

    def __init__(self, tree: Tree, *, resend: bool = True) -> None:
        self._tree = tree
        self._wanted_flags = WANTED_FLAGS if resend else WANTED_FLAGS & ~fuse_protocol.HAS_RESEND
        self._texts = OpenTexts(tree)
        self.table: dict[int, Callable[[int, memoryview], bytes | None]] = {
            Opcode.LOOKUP: self.lookup,
            Opcode.FORGET: self.forget,
            Opcode.BATCH_FORGET: self.forget,
            Opcode.INTERRUPT: self.forget,
            Opcode.GETATTR: self.getattr,
            Opcode.SETATTR: self.setattr,
            Opcode.SYMLINK: self.change_names,
            Opcode.MKNOD: self.change_names,
            Opcode.MKDIR: self.change_names,
            Opcode.UNLINK: self.change_names,
            Opcode.RMDIR: self.change_names,
            Opcode.RENAME: self.change_names,
            Opcode.RENAME2: self.change_names,
            Opcode.LINK: self.change_names,
            Opcode.CREATE: self.change_names,
            Opcode.OPEN: self.open,
            Opcode.READ: self.read_text,
            Opcode.WRITE: self.write_text,
            Opcode.STATFS: self.statfs,
            Opcode.RELEASE: self.release,
            Opcode.FSYNC: self.fsync,
            Opcode.FLUSH: self.fsync,
            Opcode.FSYNCDIR: self.fsync,
            Opcode.OPENDIR: self.opendir,
            Opcode.READDIR: self.readdir,
            Opcode.RELEASEDIR: self.fsync,
            Opcode.FALLOCATE: self.fallocate,
            Opcode.LSEEK: self.lseek,
            Opcode.INIT: self.init,
            Opcode.DESTROY: self.fsync,
        }

    # -- the session -----------------------------------------------------------------

    def init(self, _: int, body: memoryview) -> bytes:
        """Settle protocol version and flags, and keep them for the next worker."""
        major, minor, readahead, flags = fuse_protocol.INIT_IN.unpack_from(body)
        if major != fuse_protocol.KERNEL_VERSION or minor < fuse_protocol.MIN_MINOR:
            raise Unsupported(errno.EPROTO)
        if flags & fuse_protocol.INIT_EXT and len(body) >= 20:
            flags |= fuse_protocol.INIT_IN_FLAGS2.unpack_from(body, 16)[0] << 32
        flags &= self._wanted_flags
        minor = min(minor, fuse_protocol.OUR_MINOR)
        self._tree.device.state.session = FuseSession(
            major, minor, flags, fuse_protocol.MAX_WRITE, fuse_protocol.MAX_PAGES
        )
        return fuse_protocol.INIT_OUT.pack(
            fuse_protocol.KERNEL_VERSION,
            minor,
            readahead,
            flags & 0xFFFFFFFF,
            _MAX_BACKGROUND,
            _CONGESTION,
            fuse_protocol.MAX_WRITE,
            1,
            fuse_protocol.MAX_PAGES,
            0,
            flags >> 32,
        )

    def forget(self, _: int, __: memoryview) -> None:
        """FORGET, BATCH_FORGET, INTERRUPT: never answered; inodes stay, answers are quick."""

    # -- names and attributes --------------------------------------------------------

    def lookup(self, inode: int, body: memoryview) -> bytes:
        name = bytes(body).split(b"\0", 1)[0].decode(errors="surrogateescape")
        found = self._tree.lookup(inode, name)
        attributes = self._tree.attributes(found)
        return fuse_protocol.ENTRY_OUT.pack(
            found, 0, _ENTRY_VALID_S, _validity(attributes), 0, 0
        ) + self._attr(attributes)

    def getattr(self, inode: int, _: memoryview) -> bytes:
        return self._attr_out(inode)

    def setattr(self, inode: int, body: memoryview) -> bytes:
        valid, _, _, size = fuse_protocol.SETATTR_IN.unpack_from(body)
        if valid & _FIXED:
            raise Unsupported(errno.EPERM)
        if valid & fuse_protocol.FATTR_SIZE:
            self._tree.resize(inode, size)
        elif valid & _TIMES:  # truncate(2) sets them, too
            raise Unsupported(errno.EPERM)
        return self._attr_out(inode)

    def change_names(self, _: int, __: memoryview) -> bytes:
        """What there is, is settled."""
        raise Unsupported(errno.EPERM)

    def statfs(self, _: int, __: memoryview) -> bytes:
        usage = self._tree.usage()
        free = usage.blocks_free
        return fuse_protocol.STATFS_OUT.pack(
            usage.blocks,
            free,
            free,
            0,
            0,
            4096,
            255,
            4096,
            0,  # no inodes for df -i
        )

    # -- directories -----------------------------------------------------------------

    def opendir(self, inode: int, _: memoryview) -> bytes:
        self._tree.entries(inode)
        return fuse_protocol.OPEN_OUT.pack(0, 0, 0)

    def readdir(self, inode: int, body: memoryview) -> bytes:
        _, offset, size, *_ = fuse_protocol.READ_IN.unpack_from(body)
        entries = [Entry(".", inode, True), Entry("..", 1, True), *self._tree.entries(inode)]
        out = bytearray()
        for position, entry in enumerate(entries[offset:], start=offset + 1):
            name = entry.name.encode()
            kind = stat.S_IFDIR if entry.is_directory else stat.S_IFREG
            record = fuse_protocol.DIRENT.pack(entry.inode, position, len(name), kind >> 12) + name
            record += bytes(-len(record) % 8)
            if len(out) + len(record) > size:
                break
            out += record
        return bytes(out)

    # -- files -----------------------------------------------------------------------

    def open(self, inode: int, body: memoryview) -> bytes:
        flags, _ = fuse_protocol.OPEN_IN.unpack_from(body)
        if inode == SWAPFILE:
            if flags & os.O_TRUNC:
                self._tree.resize(inode, 0)
            how = fuse_protocol.FOPEN_DIRECT_IO | fuse_protocol.FOPEN_PARALLEL_DIRECT_WRITES
            return fuse_protocol.OPEN_OUT.pack(0, how, 0)
        handle = self._texts.open(inode, readable=flags & os.O_ACCMODE != os.O_WRONLY)
        return fuse_protocol.OPEN_OUT.pack(handle, fuse_protocol.FOPEN_DIRECT_IO, 0)

    def read_text(self, inode: int, body: memoryview) -> bytes:
        handle, offset, size, *_ = fuse_protocol.READ_IN.unpack_from(body)
        return self._texts.read(handle, inode, offset, size)

    def write_text(self, inode: int, body: memoryview) -> bytes:
        _, offset, size, *_ = fuse_protocol.READ_IN.unpack_from(body)
        data = body[fuse_protocol.READ_IN.size : fuse_protocol.READ_IN.size + size]
        if len(data) != size:
            raise InvalidArgument("a write that is shorter than it says")
        self._tree.write_text(inode, offset, bytes(data))
        return bytes(
            fuse_protocol.WRITE_REPLY.pack(0, 0, 0, size, 0)[fuse_protocol.OUT_HEADER.size :]
        )

    def release(self, _: int, body: memoryview) -> bytes:
        handle, *_rest = fuse_protocol.RELEASE_IN.unpack_from(body)
        self._texts.release(handle)
        return b""

    def fsync(self, _: int, __: memoryview) -> bytes:
        """FSYNC, FLUSH and the like: a store is complete before it is answered, so nothing waits.

        The promise is that of swap: acknowledged data outlives the worker, not the machine.
        """
        return b""

    def fallocate(self, inode: int, body: memoryview) -> bytes:
        """PUNCH_HOLE and ZERO_RANGE; raises `Unfinished` where there is more to it."""
        _, offset, length, mode, _ = fuse_protocol.FALLOCATE_IN.unpack_from(body)
        if inode != SWAPFILE:
            raise Unsupported(errno.EOPNOTSUPP)
        gone = fuse_protocol.FALLOC_FL_PUNCH_HOLE | fuse_protocol.FALLOC_FL_ZERO_RANGE
        if (
            not mode & gone
            or mode & ~(gone | fuse_protocol.FALLOC_FL_KEEP_SIZE)
            or mode & gone == gone
        ):
            raise Unsupported(errno.EOPNOTSUPP)
        if not length or offset + length >= 1 << 63:
            raise InvalidArgument("an empty range, or one without end")
        self._tree.device.transport.discards += 1
        self._tree.device.pending_io.discards.begin(offset, length)
        return b""

    def lseek(self, inode: int, body: memoryview) -> bytes:
        _, offset, whence, _ = fuse_protocol.LSEEK_IN.unpack_from(body)
        if inode != SWAPFILE:
            raise Unsupported
        if whence == os.SEEK_DATA:
            found = self._tree.swapfile.seek_data(offset)
        elif whence == os.SEEK_HOLE:
            found = self._tree.swapfile.seek_hole(offset)
        else:
            raise InvalidArgument(f"whence {whence}")
        if found is None:
            raise Unsupported(errno.ENXIO)
        return fuse_protocol.LSEEK_OUT.pack(found)

    # -- encoding --------------------------------------------------------------------

    def _attr(self, attributes: Attributes) -> bytes:
        seconds, nanoseconds = divmod(self._tree.created_ns, 1_000_000_000)
        return fuse_protocol.ATTR.pack(
            attributes.inode,
            attributes.size_bytes,
            attributes.blocks,
            seconds,
            seconds,
            seconds,
            nanoseconds,
            nanoseconds,
            nanoseconds,
            attributes.mode,
            attributes.links,
            self._tree.uid,
            self._tree.gid,
            0,
            4096,
            0,
        )

    def _attr_out(self, inode: int) -> bytes:
        attributes = self._tree.attributes(inode)
        return fuse_protocol.ATTR_OUT.pack(_validity(attributes), 0, 0) + self._attr(attributes)


def _validity(attributes: Attributes) -> int:
    """Seconds the kernel may keep attributes: directories do not change, files do."""
    return _ENTRY_VALID_S if attributes.mode & stat.S_IFDIR else _ATTR_VALID_S
