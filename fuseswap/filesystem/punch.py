"""A range of the swapfile that is to read as zeros, a bounded piece at a time.

Parts of pages at its edges come first, since they may have to wait (`Deferred`).  Nothing of the
edge has changed then, and the same step is taken again.  The pages between follow in steps of
``invalidation.py``.  To begin anew is harmless while nothing newer is in the range.
"""

from __future__ import annotations

from collections.abc import Callable

from fuseswap.frontswap.invalidation import Invalidation
from fuseswap.units import PAGE_SHIFT, PAGE_SIZE, PageNumber

_IN_PAGE = PAGE_SIZE - 1

# Makes bytes of a page zero: page, where in it, how many.
Zero = Callable[[PageNumber, int, int], None]


class Punch:
    """Whole pages become holes, partial edges are zeroed.  For PUNCH_HOLE and ZERO_RANGE."""

    __slots__ = ("_edges", "_end", "_first", "_invalidation", "_next", "_zero")

    def __init__(self, offset: int, end: int, zero: Zero, invalidation: Invalidation) -> None:
        """From ``offset`` to before ``end``, both within the file."""
        self._zero = zero
        self._invalidation = invalidation
        self._edges: list[tuple[PageNumber, int, int]] = []  # two at most
        self._first = offset + _IN_PAGE >> PAGE_SHIFT
        self._end = end >> PAGE_SHIFT
        if self._first > self._end:  # within one page
            self._edges.append((self._end, offset & _IN_PAGE, end - offset))
        else:
            if end & _IN_PAGE:
                self._edges.append((self._end, 0, end & _IN_PAGE))
            if offset & _IN_PAGE:
                in_page = offset & _IN_PAGE
                self._edges.append((offset >> PAGE_SHIFT, in_page, PAGE_SIZE - in_page))
        self._next = self._first

    def step(self) -> bool:
        """Do some more; False: that was all.  Raises as a partial write does, at the edges."""
        while self._edges:
            self._zero(*self._edges[-1])
            self._edges.pop()
        if self._next < self._end:
            self._next = self._invalidation.some(self._next, self._end)
            if self._next < self._end:
                return True
            self._invalidation.ended(self._first, self._end)
        return False

    @property
    def has_edges(self) -> bool:
        """Whether it may have to wait."""
        return bool(self._edges)
