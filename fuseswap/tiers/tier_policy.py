"""The policy of a tier: its priority, its limit, and whether it is being emptied.

A person writes it, and the header keeps it behind the tier's name, in one line of words:

    priority=5 limit=1073741824 drain=Y

Priorities are those of swapon(2).  The higher one is written to first, and tiers of the same
priority take turns.  A tier that was given none gets the highest negative one that is free,
so that one that comes later is filled later.
"""

from __future__ import annotations

from typing import NamedTuple

from fuseswap.errors import InvalidArgument
from fuseswap.sizes import parse_size
from fuseswap.spelling import is_whole
from fuseswap.units import MIB

LEAST_PRIORITY = -32768
MOST_PRIORITY = 32767
_WORDS = ("priority", "limit", "drain")


class TierPolicy(NamedTuple):
    """``limit_bytes``: at most so much is kept there, in whole MiB; None: as much as it holds."""

    priority: int = -1
    limit_bytes: int | None = None
    draining: bool = False

    def __str__(self) -> str:
        limit = "none" if self.limit_bytes is None else self.limit_bytes
        return f"priority={self.priority} limit={limit} drain={'Y' if self.draining else 'N'}"

    def changed(self, words: list[str]) -> TierPolicy:
        """This with what ``words`` say, each NAME=VALUE; raises `InvalidArgument`."""
        policy = self
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or name not in _WORDS:
                raise InvalidArgument(f"'{word}' is none of {', '.join(_WORDS)}, each =VALUE")
            if name == "priority":
                policy = policy._replace(priority=_priority(value))
            elif name == "limit":
                policy = policy._replace(limit_bytes=_limit(value))
            else:
                policy = policy._replace(draining=_switch(value))
        return policy


def _priority(text: str) -> int:
    if not is_whole(text.removeprefix("-")):
        raise InvalidArgument(f"priority '{text}' is not a number")
    if not LEAST_PRIORITY <= int(text) <= MOST_PRIORITY:
        raise InvalidArgument(f"priority {text} is not between {LEAST_PRIORITY} and 32767")
    return int(text)


def _limit(text: str) -> int | None:
    if text == "none":
        return None
    size = parse_size(text)
    if size < MIB:
        raise InvalidArgument(f"limit {text} is less than 1M, the size of a segment")
    return size - size % MIB


def _switch(text: str) -> bool:
    if text not in ("Y", "N"):
        raise InvalidArgument(f"drain is Y or N, not '{text}'")
    return text == "Y"
