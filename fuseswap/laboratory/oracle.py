"""What each page must hold: a dictionary beside the device, which checks every load.

A page holds what was stored last, or zeros.  A store that was refused leaves zeros: the kernel has
that page still.  An error is right only where a tier has failed, lied or forgotten.  Other bytes
are never right.
"""

from __future__ import annotations

from collections.abc import Callable

from fuseswap.errors import FuseswapError
from fuseswap.laboratory.contents import page_of, same_filled
from fuseswap.units import PAGE_SIZE

_ZEROS = bytes(PAGE_SIZE)
SAME_FILLED = -1  # in place of the bytes of noise

Version = tuple[int, int]  # a hash, and how much noise


class WrongPage(FuseswapError):
    """A load gave what was not stored last, or was never answered: a bug."""


def bytes_of(version: Version | None) -> bytes:
    """4096 bytes."""
    if version is None:
        return _ZEROS
    return same_filled(version[0]) if version[1] == SAME_FILLED else page_of(*version)


class Oracle:
    """``may_fail``: whether anything has happened that excuses an error."""

    def __init__(self, may_fail: Callable[[], bool]) -> None:
        self._pages: dict[int, Version] = {}
        self._may_fail = may_fail
        self.checked = 0
        self.errors = 0

    def stored(self, page: int, version: Version) -> None:
        """It was taken."""
        self._pages[page] = version

    def forgotten(self, first: int, count: int = 1) -> None:
        """Discarded, or refused."""
        if count > len(self._pages):
            for page in [page for page in self._pages if first <= page < first + count]:
                del self._pages[page]
            return
        for page in range(first, first + count):
            self._pages.pop(page, None)

    def loaded(self, page: int, found: bytes | Exception) -> None:
        """Raises `WrongPage`."""
        self.checked += 1
        if isinstance(found, Exception):
            self.errors += 1
            if not self._may_fail():
                raise WrongPage(f"page {page} can't be loaded, and no tier is at fault: {found}")
            return
        wanted = self._pages.get(page)
        if found != bytes_of(wanted):
            was = "nothing" if wanted is None else f"{wanted[0]:016x}"
            got = "nothing" if found == _ZEROS else f"{int.from_bytes(found[:8], 'little'):016x}"
            raise WrongPage(f"page {page} holds {was} and was loaded as {got}")
