"""From functions that call back to tasks that wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def called(begin: Callable[[Callable[[T], None]], None]) -> T:
    """Give ``begin`` a function, and wait until that is called; returns what it was given."""
    found: list[T] = []
    ended = trio.Event()

    def done(result: T) -> None:
        found.append(result)
        ended.set()

    begin(done)
    await ended.wait()
    return found[0]
