"""The protocol of codecs: one page of 4096 bytes to a payload, and back.

    class Snappy:
        name = "snappy"
        releases_gil = True

        def compressor(self, level: int | None) -> Callable[[Buffer], bytes]: ...
        def decompressor(self) -> Callable[[bytes], bytes]: ...

``registry.py`` gives a codec its number, which stands in the slot word of its pages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

Buffer = bytes | memoryview

# Saving less than 3 % is not worth a decompression at every load.
MAX_COMPRESSED_BYTES: Final = 3968

CHECK_BYTES: Final = 4  # before each payload: see ``checksum.py``

# Of codecs that are registered: their numbers, and the longest name.
REGISTERED = range(9, 16)
MAX_NAME_BYTES: Final = 28


class Codec(Protocol):
    """What compresses pages.

    Both methods make a context.  It belongs to the thread that asked for it, and each thread asks
    for one of its own.  The serving thread asks before it serves, and makes each work once: what
    needs memory at its first page gets it then.  A call must keep nothing of a page, and must not
    wait.
    """

    # 1 to 28 characters of a-z, 0-9, "-" and "_".  It never changes: pages are found by it.
    name: str
    # Whether other threads run while it works.
    releases_gil: bool

    def compressor(self, level: int | None) -> Callable[[Buffer], bytes]:
        """What turns 4096 bytes into a payload, of any length but 0.

        The caller decides whether it is small enough.  ``level``: the number behind the name, as
        in ``zstd:3``; None where there is none.  `InvalidArgument` for one that does not exist.
        """
        ...

    def decompressor(self) -> Callable[[bytes], bytes]:
        """What turns a payload back into exactly 4096 bytes; raises `CorruptData`.

        The payload may be anything.  The bound on the output comes before the memory for it: a
        payload that claims to be larger must not allocate what it claims.
        """
        ...
