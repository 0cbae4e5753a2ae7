"""Exclusive loads: a page that was loaded is invalidated, since its reader has it now.

As the kernel's frontswap could do it (``frontswap_tmem_exclusive_gets``).  There the page was made
dirty at once, so that it would be stored again.  A block device can't do that.  The kernel drops a
clean page of the swap cache without a write, and reads its slot again.  It also reads ahead, and
for swapoff and hibernation.  So on a swap this loses pages: it is refused while page 0 has
the header of one, and switched off when a header comes.  For other users of the file it is sound.

A worker that dies has its requests sent again.  So a page goes only once its reply is surely out,
1 to 2 s after the load, if it was not stored meanwhile.
"""

from __future__ import annotations

import logging

from fuseswap.errors import CorruptData, Deferred, InvalidArgument
from fuseswap.frontswap.backend import Data
from fuseswap.frontswap.chain import Frontswap
from fuseswap.units import FIRST_PAGE, PageNumber

log = logging.getLogger(__name__)

_HEADER_ENDS = b"SWAPSPACE2"
_MOST = 4096  # pages noted at once; those beyond stay stored


class ExclusiveLoads:
    """Loads and stores of ``frontswap``; `settle` has what was loaded go."""

    def __init__(self, frontswap: Frontswap) -> None:
        """Raises `InvalidArgument` where the file is a swap, or that can't be seen now."""
        self._frontswap = frontswap
        self._young: set[PageNumber] = set()  # `_MOST` at most
        self._old: set[PageNumber] = set()  # loaded before the last `settle`; as many
        try:
            header = frontswap.load(FIRST_PAGE)
        except (CorruptData, Deferred) as exc:
            raise InvalidArgument(f"page 0, where a swap has its header: {exc}") from None
        self.is_on = header is None or not header.endswith(_HEADER_ENDS)
        if not self.is_on:
            raise InvalidArgument("this is a swap: the kernel may read a slot twice")

    def load(self, page: PageNumber) -> bytes | None:
        """As that of the front end; the page is to go."""
        data = self._frontswap.load(page)
        if data is not None and self.is_on and len(self._young) < _MOST:
            self._young.add(page)
        return data

    def store(self, page: PageNumber, data: Data, replace: bool = False) -> None:
        """As that of the front end; the page is to stay."""
        self._young.discard(page)
        self._old.discard(page)
        if page == FIRST_PAGE and self.is_on and bytes(data[-10:]) == _HEADER_ENDS:
            self.is_on = False
            self._young.clear()
            self._old.clear()
            log.warning("exclusive_loads is off: the file is a swap from now on")
        self._frontswap.store(page, data, replace)

    def settle(self) -> None:
        """Call it once a second: pages loaded a second ago, and not stored since, go."""
        for page in self._old:
            self._frontswap.invalidate_page(page)
        self._old, self._young = self._young, set()
