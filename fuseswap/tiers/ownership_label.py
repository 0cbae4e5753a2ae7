"""The claim: how a backing file shows whose it is, after any crash, and where its pages lie.

    0          512               1 MiB                         size - 1 MiB          size
    +----------+------------------+-------------------------------+-------------------+
    |  claim   |      zeros       |  pages (`FIRST_PAGE_AT`, ...)  |       zeros       |
    +----------+------------------+-------------------------------+-------------------+

Both ends are never written to but for the claim, which fits in one sector and so is there
or not.  Zeros over zeros behind it are the exception (`write_zeros` of ``linux/aio.py``).
File systems, partition tables, RAID, LVM, swap and encryption mark a disk in its first or its last
MiB, none with zeros.  So any use of the disk before or since has left a mark
in an end.  It works the other way round, too.  A page that is the image of such a mark never
lies where others look.  The second header of LUKS2 is the exception (1, 2 and 4 MiB).

No secret: it says which device of which machine has the file, and how large that is.
Bytes only; who opens and locks a backing file, and looks at its ends, is ``tiers/backing_file.py``.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from fuseswap.units import MIB, PAGE_SIZE

END_BYTES = MIB
BOTH_ENDS_BYTES = 2 * END_BYTES
FIRST_PAGE_AT = END_BYTES

_MAGIC = b"fuseswap-backing"
_VERSION = 1
_CLAIM = struct.Struct("<16sIIQI32s")  # magic, version, made, size, machine, name
_CHECK = struct.Struct("<I")  # CRC-32 of the claim


def room_bytes(size_bytes: int) -> int:
    """How much of a backing of ``size_bytes`` is for pages: whole pages from `FIRST_PAGE_AT` on."""
    return max(0, size_bytes - BOTH_ENDS_BYTES) & -PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Claim:
    """``machine``: 32 bits of who made it; ``made``: `up` made the file, so `down` removes it."""

    name: str
    size_bytes: int
    machine: int
    made: bool

    def block(self) -> bytes:
        """The first 4096 bytes of the file."""
        claim = _CLAIM.pack(
            _MAGIC, _VERSION, self.made, self.size_bytes, self.machine, self.name.encode()
        )
        return (claim + _CHECK.pack(zlib.crc32(claim))).ljust(PAGE_SIZE, b"\0")

    @classmethod
    def in_ends(cls, head: bytes, tail: bytes) -> Claim | None:
        """The claim in the first and the last MiB; None where there is anything else as well."""
        _, version, made, size_bytes, machine, name = _CLAIM.unpack_from(head.ljust(PAGE_SIZE))
        if version != _VERSION or is_zero(head):
            return None
        try:
            claim = cls(name.rstrip(b"\0").decode("ascii"), size_bytes, machine, bool(made))
        except UnicodeDecodeError:
            return None
        return claim if head == claim.block().ljust(len(head), b"\0") and is_zero(tail) else None


def is_zero(data: bytes) -> bool:
    """Whether there is nothing but zeros."""
    return data.count(0) == len(data)
