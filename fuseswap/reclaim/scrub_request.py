"""A request to scrub: the part to read back, how fast, and the findings so far.

The parameter ``scrub`` takes one; its text is read back with the progress.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fuseswap.errors import InvalidArgument
from fuseswap.sizes import parse_size
from fuseswap.units import PageNumber

_MOST_TOLD = 1000  # pages that are named; all are counted


@dataclass(slots=True)
class ScrubRequest:
    """An order to scrub, and its findings; its text is read back with the progress."""

    text: str = "idle"
    tier: str | None = None  # that one alone, nothing else
    rate: int | None = None  # bytes a second
    total: int = 0
    done: int = 0
    bad: int = 0
    repaired: int = 0
    told: list[str] = field(default_factory=list)  # `_MOST_TOLD` at most

    @classmethod
    def parse(cls, text: str) -> ScrubRequest:
        """``all`` or ``tier=NAME``, and ``rate=SIZE`` behind it; raises `InvalidArgument`."""
        which, *more = text.split() or [""]
        request = cls(text)
        name, _, value = which.partition("=")
        if name == "tier" and value:
            request.tier = value
        elif which != "all":
            raise InvalidArgument(f"'{which}' is neither all nor tier=NAME")
        for word in more:
            name, _, value = word.partition("=")
            if name != "rate":
                raise InvalidArgument(f"'{word}' is not rate=SIZE")
            request.rate = parse_size(value)
            if not request.rate:
                raise InvalidArgument("a rate of 0 never ends")
        return request

    def note_bad(self, page: PageNumber, why: str) -> None:
        """Name ``page``, if there are not too many."""
        self.bad += 1
        if len(self.told) < _MOST_TOLD:
            self.told.append(f"page {page}: {why}")

    def __str__(self) -> str:
        if not self.total:
            return "idle"
        state = f"{self.text}: {self.done} of {self.total} parts, {self.bad} bad pages"
        if self.repaired:
            state += f", {self.repaired} segments repaired"
        return "\n".join([state, *self.told])
