"""How hard the tests that draw at random try: all in `scripts/test`, less in `scripts/check`."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from typing import TypeVar

_Item = TypeVar("_Item")

EFFORT = float(os.environ.get("FUSESWAP_TEST_EFFORT", "1"))


def scaled(count: int) -> int:
    """``count`` examples, or as many as there is time for."""
    return max(1, round(count * EFFORT))


def some_of(items: Iterable[_Item]) -> list[_Item]:
    """All of them, or a share where there is less time: the same each time, in their order."""
    every = list(items)
    count = min(len(every), scaled(len(every)))
    return [every[at] for at in sorted(random.Random(count).sample(range(len(every)), count))]
