"""Threads for blocking work, started beforehand.

trio's own worker threads come and go.  Starting one maps a stack, and under memory
pressure that is the last thing a swap server should need.  These start once, after
the process is marked IO_FLUSHER (which they inherit), and stay.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

import trio

from fuseswap.linux import syscalls

_LOCKED_STACK_BYTES = 256 * 1024  # lz4 alone takes 130 KiB

T = TypeVar("T")


class IoThreads:
    """``count`` threads."""

    def __init__(self, count: int) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"io-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        """Run ``job`` (which raises nothing) in a thread, then ``done`` with its result here."""
        token = trio.lowlevel.current_trio_token()

        def work() -> None:
            result = job()
            try:
                token.run_sync_soon(done, result)
            except trio.RunFinishedError:
                return  # the worker has stopped; nobody waits any more

        self._jobs.put(work)

    def retire(self) -> None:
        """The threads end once they have done the jobs that wait; that is not waited for."""
        for _ in self._threads:
            self._jobs.put(None)

    def close(self) -> None:
        """End the threads; jobs that wait are done first."""
        self.retire()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        syscalls.lock_stack(_LOCKED_STACK_BYTES)
        while True:
            work = self._jobs.get()
            if work is None:
                return
            work()
            del work  # not until the next one comes: it holds its data
