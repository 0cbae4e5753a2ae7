"""Pace: when the thread of recompression may work, and how much at a time.

It comes last of all.  A batch waits until no request has come for a moment, and where that is
never so, goes on with a few pages.  The thread stops after the page it is at when a request
comes.  Where a batch takes longer than the processor needs for it, others want that too, and
the pauses grow.  While stores wait for its gains it does not wait; where it gets no
memory it rests.  Knows payloads, and not what becomes of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import trio
import zstandard

from fuseswap.cache.recompressor import Packed
from fuseswap.cache.slot_word import codec_of
from fuseswap.waiting import called

_BATCH = 32  # pages a thread is given while it is quiet: 2 ms
_SMALL_BATCH = 4  # where it never is
_QUIET_S = 0.005
_PATIENCE_S = 0.02  # then a small batch, quiet or not
_LONGEST_PAUSE_S = 0.2
_CONTENDED = 1.5  # times the processor time that a batch took
_REST_S = 5.0  # after the thread had no memory

Submit = Callable[[Callable[[], Any], Callable[[Any], None]], None]
Read = Callable[[int], bytes]  # check and payload of the object of a word
# Objects, and whether to stop, to what they become: None where that is not worth it.
Shrink = Callable[[Sequence[tuple[int, bytes]], Callable[[], bool]], list[Packed | None]]


def run_here(job: Callable[[], Any], done: Callable[[Any], None]) -> None:
    """A `Submit` without a thread."""
    done(job())


class Pace:
    """The thread of ``submit``; ``requests`` counts all that was asked of the device so far."""

    def __init__(self, submit: Submit, requests: Callable[[], int]) -> None:
        self._submit = submit
        self._requests = requests
        self._pause_s = 0.0
        self._last_requests = 0
        self._rests_until = 0.0
        self._need = trio.Event()
        self.in_need = False  # stores wait
        self.tried_pages = 0
        self.is_memory_short: Callable[[], bool] = lambda: False

    @property
    def is_resting(self) -> bool:
        """Whether there is no memory to work with: the thread got none, or the machine is short.

        A thread that waits for memory may hold the interpreter lock.
        """
        return trio.current_time() < self._rests_until or self.is_memory_short()

    def hurry(self) -> None:
        """Stores wait, until `relax`."""
        self.in_need = True
        self._need.set()

    def relax(self) -> None:
        """They do not any more."""
        self.in_need = False
        self._need = trio.Event()

    async def _pack(
        self,
        words: list[int],
        read: Read,
        shrink: Callable[[], Shrink],
        go_on: Callable[[], bool],
    ) -> list[tuple[int, Packed | None]]:
        """What the thread makes of the objects of ``words``, until `go_on` says no or it rests.

        `go_on` and then `shrink` are asked before each batch.
        """
        packed: list[tuple[int, Packed | None]] = []
        while len(packed) < len(words):
            size = await self._turn()
            if not go_on():
                break
            part = words[len(packed) : len(packed) + size]
            patient = size == _SMALL_BATCH or self.in_need
            found = await self._in_thread(part, read, shrink(), patient=patient)
            if self.is_resting:
                break
            packed += zip(part, found, strict=False)
            self.tried_pages += len(found)
        return packed

    async def _turn(self) -> int:
        """Wait until it is this task's turn; how many pages it may take."""
        await self._idle(self._pause_s)
        if self.in_need:
            return _BATCH
        if self._requests() == self._last_requests:  # since the last batch began
            return _BATCH
        give_up = trio.current_time() + _PATIENCE_S
        while trio.current_time() < give_up:
            before = self._requests()
            await self._idle(_QUIET_S)
            if self._requests() == before or self.in_need:
                return _BATCH
        return _SMALL_BATCH

    async def _idle(self, seconds: float) -> None:
        """Sleep, unless stores wait."""
        with trio.move_on_after(seconds):
            await self._need.wait()

    async def _in_thread(
        self, words: list[int], read: Read, shrink: Shrink, *, patient: bool
    ) -> list[Packed | None]:
        """What the thread makes of the objects; it may be stopped early by a request."""
        objects = [(codec_of(word), read(word)) for word in words]
        self._last_requests = before = self._requests()
        stop = (lambda: False) if patient else (lambda: self._requests() != before)

        found: list[Packed | None] = []
        failed: list[bool] = []

        def job() -> tuple[float, float]:
            began, used = time.perf_counter(), time.thread_time()
            try:
                found.extend(shrink(objects, stop))
            except (MemoryError, zstandard.ZstdError):  # no memory, of either
                failed.append(True)
            return time.perf_counter() - began, time.thread_time() - used

        took_s, used_s = await called(partial(self._submit, job))
        if took_s > _CONTENDED * used_s + 0.0005:
            self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s + 0.002)
        else:
            self._pause_s = self._pause_s / 2 if self._pause_s > 0.001 else 0.0
        if failed:
            self._rests_until = trio.current_time() + _REST_S
        return found
