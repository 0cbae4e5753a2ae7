"""From functions that call back to tasks that wait.

An `Answer` is what such a function calls.  An error among what it is given is a value like
any other until `result_of` raises it; see `fuseswap.errors.kept`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import trio

T = TypeVar("T")


class Answer(Generic[T]):
    """To be called once, with what one task waits for."""

    __slots__ = ("_ended", "_found")

    def __init__(self) -> None:
        self._found: list[T] = []  # at most one
        self._ended = trio.Event()

    def __call__(self, result: T) -> None:
        """Here it is."""
        self._found.append(result)
        self._ended.set()

    async def wait(self) -> T:
        """What it was called with; not kept."""
        await self._ended.wait()
        return self._found.pop()


async def await_callback(begin: Callable[[Callable[[T], None]], None]) -> T:
    """Give ``begin`` a function, and wait until that is called; returns what it was given."""
    answer: Answer[T] = Answer()
    begin(answer)
    return await answer.wait()


def result_of(found: T | Exception) -> T:
    """``found``, raised where it is an error.  Give it no name: the frame would hold it."""
    if isinstance(found, Exception):
        try:
            raise found
        finally:
            del found
    return found


def fail_later(done: Callable[[Any], None], error: OSError) -> None:
    """Give ``done`` the error in the next turn of the loop: a tier never calls back at once."""
    trio.lowlevel.current_trio_token().run_sync_soon(done, error)
