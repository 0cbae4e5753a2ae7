"""A request for reclaim: which segments are to leave or to shrink now, and how far that is.

The parameters ``writeback`` and ``recompress`` take one; its text is read back with the progress.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fuseswap.errors import InvalidArgument
from fuseswap.sizes import parse_size
from fuseswap.spelling import is_whole
from fuseswap.store.segment_entry import Stream
from fuseswap.units import SegmentId


@dataclass(slots=True)
class ReclaimRequest:
    """Segments that are to be written back or recompressed now; `parse` has the words for it."""

    text: str = "idle"
    idle_seconds: int = 0
    incompressible: bool = False
    most_bytes: int | None = None  # of objects, in the order in which segments leave
    tier: str | None = None  # they go there; None: where they would go anyway
    most: int | None = None  # segments; None: all of them
    total: int = 0
    left: list[SegmentId] = field(default_factory=list)  # segments that were in memory when asked

    @classmethod
    def parse(cls, text: str, *, leaves: bool = False) -> ReclaimRequest:
        """``all``, ``incompressible`` or ``idle=SECONDS``; raises `InvalidArgument`.

        What ``leaves`` may have ``max=SIZE`` and ``tier=NAME`` behind it.
        """
        which, *more = text.split() or [""]
        request = cls(text)
        name, _, seconds = which.partition("=")
        if which == "incompressible":
            request.incompressible = True
        elif name == "idle" and is_whole(seconds):
            request.idle_seconds = int(seconds)
        elif which != "all":
            raise InvalidArgument(f"'{which}' is none of all, incompressible, idle=SECONDS")
        for word in more:
            name, _, value = word.partition("=")
            if leaves and name == "max":
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
        return not self.incompressible and not self.idle_seconds

    def takes(self, stream: Stream, age_s: float) -> bool:
        """Whether a sealed segment of that stream and age is meant."""
        if self.incompressible:
            return stream == Stream.INCOMPRESSIBLE
        return age_s >= self.idle_seconds

    def progress(self, in_flight: int) -> str:
        """How far it is, with ``in_flight`` segments whose writes have not ended."""
        done = max(0, self.total - len(self.left) - in_flight)
        return f"{self.text}: {done} of {self.total} segments" if self.total else "idle"

    def __str__(self) -> str:
        return self.progress(0)
