"""What each page must hold: columns beside the device, which check every load.

A page holds what was stored last, or zeros.  A store that was refused leaves zeros: the kernel has
that page still.  An error is right only where a tier has failed, lied or forgotten.  Other bytes
are never right.  A page takes 10 bytes, in columns that are there where pages are.
"""

from __future__ import annotations

from collections.abc import Callable

from fuseswap.errors import FuseswapError
from fuseswap.laboratory.contents import Contents, same_filled
from fuseswap.laboratory.page_column import PageColumn
from fuseswap.units import PAGE_SIZE

_ZEROS = bytes(PAGE_SIZE)
SAME_FILLED = -1  # in place of the bytes of noise
_NOTHING = 0  # in the column of noise, which has 2 more than the noise
_OFFSET = 2

Version = tuple[int, int]  # a hash, and how much noise


class WrongPage(FuseswapError):
    """A load gave what was not stored last, or was never answered: a bug."""


class Oracle:
    """Of ``page_count`` pages; ``may_fail``: whether anything happened that excuses an error."""

    def __init__(
        self, page_count: int, may_fail: Callable[[], bool], contents: Contents | None = None
    ) -> None:
        self._hashes = PageColumn(page_count, "Q")
        self._noise = PageColumn(page_count, "H")
        self._may_fail = may_fail
        self._contents = contents or Contents()
        self.checked = 0
        self.errors = 0

    def bytes_of(self, version: Version) -> bytes:
        """4096 bytes."""
        number, noise = version
        return same_filled(number) if noise == SAME_FILLED else self._contents.page_of(*version)

    def stored(self, page: int, version: Version) -> None:
        """It was taken."""
        self._hashes.numbers[page] = version[0]
        self._noise.numbers[page] = version[1] + _OFFSET

    def forgotten(self, first: int, count: int = 1) -> None:
        """Discarded, or refused."""
        if count == 1:
            self._noise.numbers[first] = _NOTHING
        else:
            self._noise.clear(first, count)
            self._hashes.clear(first, count)

    def loaded(self, page: int, found: bytes | Exception) -> None:
        """Raises `WrongPage`."""
        self.checked += 1
        if isinstance(found, Exception):
            self.errors += 1
            if not self._may_fail():
                raise WrongPage(f"page {page} can't be loaded, and no tier is at fault: {found}")
            return
        noise, number = self._noise.numbers[page], self._hashes.numbers[page]
        if found != (self.bytes_of((number, noise - _OFFSET)) if noise else _ZEROS):
            was = f"{number:016x}" if noise else "nothing"
            got = "nothing" if found == _ZEROS else f"{int.from_bytes(found[:8], 'little'):016x}"
            raise WrongPage(f"page {page} holds {was} and was loaded as {got}")
