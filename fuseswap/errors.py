"""Every error that fuseswap raises on purpose.

Small and flat.  The store and the file raise these and know no errno; only
``transport/`` translates them (EINVAL, ENOSPC, EIO, ...), and only ``cli/``
prints them, as one line that says what to do.
"""

from __future__ import annotations


class FuseswapError(Exception):
    """Base of all errors a caller is expected to handle."""


class InvalidArgument(FuseswapError):
    """A parameter, offset or size is not valid; nothing was changed."""


class BeyondEnd(FuseswapError):
    """A write reaches beyond the end of the swapfile; nothing was written."""


class NotPermitted(FuseswapError):
    """The file does not allow this (resizing the swapfile, writing a statistic)."""


class NoSuchFile(FuseswapError):
    """No entry of that name, or no inode of that number."""


class TooManyOpen(FuseswapError):
    """More text files are open at once than anyone needs."""


class StoreRefused(FuseswapError):
    """No backend took the page; it is invalid everywhere and the kernel keeps it."""


class PoolFull(StoreRefused):
    """The pool is at ``pool_limit_bytes`` and nothing could be freed."""


class NoRoom(FuseswapError):
    """The pool is full but room is being made: nothing was changed, try again then."""


class CorruptData(FuseswapError):
    """Stored data of one page does not match its checksum or its slot word."""


class StateMismatch(FuseswapError):
    """Shared state has a layout this version does not know; it was not touched."""


class HostError(FuseswapError):
    """The host refused something (mount, loop device, swap); says what to do."""
