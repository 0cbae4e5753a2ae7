"""The background thread: when it may work, and how much at a time.

Its work comes last of all.  A batch waits until no request has come for a moment; where one
always comes, it goes on with a few pages.

    batch of 32 pages -> thread -> a request comes: it stops after the page it is at
        took longer than the processor needed: others want that too, so pauses grow
        got no memory: it rests
        has had its share (`cpu_percent`): it pauses until that is so much of the time

While stores wait for its gains (`hurry` to `relax`) it waits for nothing.  The thread gets
payloads, never the store; the task that calls `pack` decides what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import trio
import zstandard

from fuseswap.codecs.recompressor import Packed
from fuseswap.counting import counter
from fuseswap.linux.clocks import work_s
from fuseswap.store.slot_word import codec_of
from fuseswap.tiers.callbacks import await_callback

_BATCH = 32  # pages a thread is given while it is quiet: 2 ms
_SMALL_BATCH = 4  # where it never is
_QUIET_S = 0.005
_PATIENCE_S = 0.02  # then a small batch, quiet or not
_LONGEST_PAUSE_S = 0.2
_CONTENDED = 1.5  # times the processor time that a batch took
_REST_S = 5.0  # after the thread had no memory
ALL_OF_ONE = 100  # percent of a processor

T = TypeVar("T")

Submit = Callable[[Callable[[], Any], Callable[[Any], None]], None]
Read = Callable[[int], bytes]  # check and payload of the object of a word
# Objects, and whether to stop, to what they become: None where that is not worth it.
Shrink = Callable[[Sequence[tuple[int, bytes]], Callable[[], bool]], list[Packed | None]]


@dataclass(frozen=True, slots=True)
class ThreadStatistics:
    """What all of it costs."""

    cpu_us: int = counter(
        "Microseconds of processor time that recompression took, with dictionaries.",
        name="recompress_cpu_us",
        after="recompressed_bytes_after",
    )


def run_here(job: Callable[[], Any], done: Callable[[Any], None]) -> None:
    """A `Submit` without a thread."""
    done(job())


class BackgroundThread:
    """One thread and its pace; one task at a time may await it.

    ``submit`` has the thread do a job.  ``requests`` counts all that was asked of the device so
    far.  ``is_memory_short``: the machine is, so those who allocate wait.
    """

    def __init__(
        self,
        submit: Submit = run_here,
        requests: Callable[[], int] = lambda: 0,
        is_memory_short: Callable[[], bool] = lambda: False,
    ) -> None:
        self._submit = submit
        self._requests = requests
        self._is_memory_short = is_memory_short
        self._pause_s = 0.0
        self._last_requests = 0
        self._rests_until = 0.0
        self._need = trio.Event()
        self.urgent = False  # stores wait
        self.tried_pages = 0
        self.in_hand = 0  # pages of the batch that the thread has
        self.cpu_percent = ALL_OF_ONE  # at most, while no store waits
        self._used_s = 0.0  # written by the thread
        self._settled_s = 0.0  # of that, what was paused for

    def statistics(self) -> ThreadStatistics:
        """A snapshot."""
        return ThreadStatistics(int(self._used_s * 1_000_000))

    @property
    def is_resting(self) -> bool:
        """Whether there is no memory to work with: the thread got none, or the machine is short.

        A thread that waits for memory may hold the interpreter lock.
        """
        return trio.current_time() < self._rests_until or self._is_memory_short()

    def hurry(self) -> None:
        """Stores wait, until `relax`."""
        self.urgent = True
        self._need.set()

    def relax(self) -> None:
        """No store waits any more."""
        self.urgent = False
        self._need = trio.Event()

    async def run(self, job: Callable[[], T]) -> T:
        """Have the thread do ``job``, and wait for its result."""
        return await await_callback(partial(self._submit, partial(self._timed, job)))

    def _timed(self, job: Callable[[], T]) -> T:
        began_s = work_s()[1]
        try:
            return job()
        finally:
            self._used_s += work_s()[1] - began_s

    async def pack(
        self,
        words: list[int],
        read: Read,
        shrink: Callable[[], Shrink],
        go_on: Callable[[], bool],
    ) -> list[tuple[int, Packed | None]]:
        """Have the objects of ``words`` made smaller, until `go_on` says no or it rests.

        Returns each word that was tried, and its new payload.  `go_on` and then `shrink` are asked
        before each batch.
        """
        packed: list[tuple[int, Packed | None]] = []
        while len(packed) < len(words):
            size = await self.turn()
            if not go_on():
                break
            part = words[len(packed) : len(packed) + size]
            patient = size == _SMALL_BATCH or self.urgent
            found = await self._batch(part, read, shrink(), patient=patient)
            if self.is_resting:
                break
            packed += zip(part, found, strict=False)
            self.tried_pages += len(found)
        return packed

    async def turn(self) -> int:
        """Wait until it is this task's turn; returns how many pages it may take."""
        used_s, self._settled_s = self._used_s - self._settled_s, self._used_s
        share_s = used_s * (ALL_OF_ONE - self.cpu_percent) / self.cpu_percent
        await self._idle(max(self._pause_s, share_s))
        if self.urgent:
            return _BATCH
        if self._requests() == self._last_requests:  # since the last batch began
            return _BATCH
        give_up = trio.current_time() + _PATIENCE_S
        while trio.current_time() < give_up:
            before = self._requests()
            await self._idle(_QUIET_S)
            if self._requests() == before or self.urgent:
                return _BATCH
        return _SMALL_BATCH

    async def _idle(self, seconds: float) -> None:
        """Sleep, unless stores wait."""
        with trio.move_on_after(seconds):
            await self._need.wait()

    async def _batch(
        self, words: list[int], read: Read, shrink: Shrink, *, patient: bool
    ) -> list[Packed | None]:
        """Have the thread shrink the objects; a request may stop it early unless ``patient``."""
        objects = [(codec_of(word), read(word)) for word in words]
        self._last_requests = before = self._requests()
        stop = (lambda: False) if patient else (lambda: self._requests() != before)

        found: list[Packed | None] = []
        failed: list[bool] = []

        def job() -> tuple[float, float]:
            began, used = work_s()
            try:
                found.extend(shrink(objects, stop))
            except (MemoryError, zstandard.ZstdError):  # no memory, of either
                failed.append(True)
            now = work_s()
            return now[0] - began, now[1] - used

        self.in_hand = len(objects)
        try:
            took_s, used_s = await self.run(job)
        finally:
            self.in_hand = 0
        if took_s > _CONTENDED * used_s + 0.0005:
            self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s + 0.002)
        else:
            self._pause_s = self._pause_s / 2 if self._pause_s > 0.001 else 0.0
        if failed:
            self._rests_until = trio.current_time() + _REST_S
        return found
