"""A request for reclaim: which segments are to leave or to shrink now, and how far that is.

The parameters ``writeback`` and ``recompress`` take one; its text is read back with the progress.

    ask -> searched in steps, once what a former worker left is counted -> worked off
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from fuseswap.errors import InvalidArgument
from fuseswap.linux.clocks import boot_s
from fuseswap.reclaim.page_ranges import parse_ranges
from fuseswap.sizes import parse_size
from fuseswap.spelling import is_whole
from fuseswap.store.segment_entry import Stream
from fuseswap.units import PageNumber, SegmentId

if TYPE_CHECKING:  # commands know requests, and nothing of the store
    from fuseswap.store.pages_by_segment import PagesBySegment
    from fuseswap.store.sealed_by_age import SealedByAge
    from fuseswap.store.segment_table import SegmentTable


@dataclass(slots=True)
class ReclaimRequest:
    """Segments that are to be written back or recompressed now; `parse` has the words for it."""

    text: str = "idle"
    idle_seconds: int = 0
    incompressible: bool = False
    ranges: Sequence[Sequence[PageNumber]] | None = None  # these pages and no others
    goes_on: bool = False  # another order follows: what was gathered waits for more
    most_bytes: int | None = None  # of objects, in the order in which segments leave
    tier: str | None = None  # they go there; None: where they would go anyway
    most: int | None = None  # segments; None: all of them
    total: int = 0
    left: list[SegmentId] = field(default_factory=list)  # segments that were in memory when asked
    search: SealedByAge | PagesBySegment | None = None  # to end before the two above are known
    wanted: PagesBySegment | None = None  # where ``ranges`` were found
    _was_searched_later: bool = False

    @classmethod
    def parse(cls, text: str, *, leaves: bool = False) -> ReclaimRequest:
        """``all``, ``incompressible`` or ``idle=SECONDS``; raises `InvalidArgument`.

        What ``leaves`` may be ``pages=RANGES``, with ``more`` behind it where another order
        follows.  The others may have ``max=SIZE``, and all of them ``tier=NAME``.
        """
        which, *more = text.split() or [""]
        request = cls(text)
        name, _, seconds = which.partition("=")
        if which == "incompressible":
            request.incompressible = True
        elif name == "idle" and is_whole(seconds):
            request.idle_seconds = int(seconds)
        elif name == "pages" and leaves:
            request.ranges = parse_ranges(seconds)
            request.text = f"{sum(map(len, request.ranges))} pages"
        elif which != "all":
            raise InvalidArgument(f"'{which}' is none of all, incompressible, idle=SECONDS")
        for word in more:
            name, _, value = word.partition("=")
            if request.ranges is not None and word == "more":
                request.goes_on = True
            elif leaves and name == "max" and request.ranges is None:
                request.most_bytes = parse_size(value)
            elif leaves and name == "tier" and value:
                request.tier = value
            else:
                known = "neither max=SIZE nor tier=NAME" if leaves else "more than there can be"
                raise InvalidArgument(f"'{word}' is {known}")
        return request

    @property
    def takes_all(self) -> bool:
        """Whether open segments are meant too."""
        return not self.incompressible and not self.idle_seconds and self.ranges is None

    def _takes(self, table: SegmentTable, asked_at: float, segment: SegmentId) -> bool:
        """Whether sealed ``segment`` is meant, at CLOCK_BOOTTIME ``asked_at`` in s."""
        if self.incompressible:
            return table.stream_of(segment) == Stream.INCOMPRESSIBLE
        return asked_at - table.sealed_at(segment) >= self.idle_seconds

    def begin_search(
        self,
        table: SegmentTable,
        most_segments: int,
        *,
        now: bool,
        wanted: PagesBySegment | None = None,
    ) -> bool:
        """Look for its segments: ``now`` a first step; returns whether that was all.

        ``most_segments``: the total that is told until the real one is known.  ``wanted``: finds
        its ``ranges``, where it has some.
        """
        from fuseswap.store.sealed_by_age import SealedByAge

        takes = partial(self._takes, table, boot_s())
        self.search = SealedByAge(table, takes) if wanted is None else wanted
        self.wanted = wanted
        self.total = most_segments
        if now and not self.search.step():
            return True
        self._was_searched_later = True
        return False

    def end_search(self) -> list[SegmentId]:
        """All that were found, oldest first."""
        found = self.search.found() if self.search else []
        self.search = None
        return found[: self.most]

    def progress(self, in_flight: int) -> str:
        """How far it is, with ``in_flight`` segments whose writes have not ended."""
        if self.search is not None:
            return f"{self.text}: 0 of {max(1, self.total)} segments"
        done = max(0, self.total - len(self.left) - in_flight)
        if not self.total and not self._was_searched_later:
            return "idle"
        return f"{self.text}: {done} of {self.total} segments"

    def __str__(self) -> str:
        return self.progress(0)
