"""The FUSE wire format, as far as a one-file tree needs it.

Sizes and layouts are those of linux/fuse.h, protocol 7.31 and later (all
little-endian here: the host's order on every machine we support).  Structs
only; who answers what stands in ``fuse_ops.py``.
"""

from __future__ import annotations

import struct
from enum import IntEnum

KERNEL_VERSION = 7
MIN_MINOR = 31
OUR_MINOR = 41

IN_HEADER_BYTES = 40
WRITE_HEADER_BYTES = 80  # fuse_in_header and fuse_write_in
MAX_WRITE = 1 << 20
MAX_PAGES = MAX_WRITE // 4096
BUFFER_BYTES = MAX_WRITE + 4096  # the kernel refuses reads into less than header + max_write


class Opcode(IntEnum):
    """enum fuse_opcode."""

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
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45
    LSEEK = 46


SILENT = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT})  # get no answer

# INIT flags (fuse.h); the second word is shifted by 32.
ASYNC_READ = 1 << 0
BIG_WRITES = 1 << 5
ASYNC_DIO = 1 << 15
PARALLEL_DIROPS = 1 << 18
MAX_PAGES_FLAG = 1 << 22
INIT_EXT = 1 << 30
HAS_RESEND = 1 << 39

# Notifications (the error field of a reply whose unique is 0).
NOTIFY_RESEND = 7
UNIQUE_RESEND = 1 << 63  # in the ``unique`` of a request that was sent before

# Open flags.
FOPEN_DIRECT_IO = 1 << 0
FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6

# SETATTR valid bits.
FATTR_MODE = 1 << 0
FATTR_UID = 1 << 1
FATTR_GID = 1 << 2
FATTR_SIZE = 1 << 3
FATTR_ATIME = 1 << 4
FATTR_MTIME = 1 << 5

# FALLOCATE modes.
FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_ZERO_RANGE = 0x10

# One unpack covers what READ and WRITE need: the header, then fh, offset, size.
HOT = struct.Struct("<IIQQ16x8xQI")  # len, opcode, unique, nodeid | offset, size
OUT_HEADER = struct.Struct("<IiQ")
WRITE_REPLY = struct.Struct("<IiQII")

INIT_IN = struct.Struct("<IIII")
INIT_IN_FLAGS2 = struct.Struct("<I")
INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
ENTRY_OUT = struct.Struct("<QQQQII")
ATTR_OUT = struct.Struct("<QII")
OPEN_OUT = struct.Struct("<QIi")
READ_IN = struct.Struct("<QQIIQII")
SETATTR_IN = struct.Struct("<IIQQ64x")
FALLOCATE_IN = struct.Struct("<QQQII")
LSEEK_IN = struct.Struct("<QQII")
LSEEK_OUT = struct.Struct("<Q")
STATFS_OUT = struct.Struct("<QQQQQIIII24x")
DIRENT = struct.Struct("<QQII")
RELEASE_IN = struct.Struct("<QIIQ")
OPEN_IN = struct.Struct("<II")
