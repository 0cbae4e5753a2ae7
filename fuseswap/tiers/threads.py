"""Threads for blocking I/O, started beforehand.

trio's own worker threads come and go; starting one maps a stack, and under memory
pressure that is the last thing a swap server should need.  These start once, after
the process is marked IO_FLUSHER (which they inherit), and stay.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import outcome
import trio

T = TypeVar("T")


class IoThreads:
    """``count`` threads; `run` waits for one of them to do the work."""

    def __init__(self, count: int) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], trio.lowlevel.Task, Any] | None]
        self._jobs = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"io-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, job: Callable[[], T]) -> T:
        """Result of ``job`` run in a thread; not cancellable, since the I/O is not."""
        task = trio.lowlevel.current_task()
        self._jobs.put((job, task, trio.lowlevel.current_trio_token()))
        result: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return result

    def close(self) -> None:
        """End the threads; jobs that wait are done first."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            item = self._jobs.get()
            if item is None:
                return
            job, task, token = item
            result = outcome.capture(job)
            try:
                token.run_sync_soon(trio.lowlevel.reschedule, task, result)
            except trio.RunFinishedError:
                return  # the worker has stopped; nobody waits any more
