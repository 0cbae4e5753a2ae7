"""The scribe: a thread that writes for one that must not wait.

A log on a tmpfs, a notification, ``state.json``: each needs memory of the kernel.  So each may
wait for the swap that its own process serves.  The thread that serves, or that reacts to a death,
hands them to this one, which may wait as long as it likes:

    say   a line of the log; with `MAX_LINES` of both waiting it is dropped, counted, and that
          is said later
    do    a job, in its turn; one that waits already is not taken twice.  What it raises is
          logged, and the thread goes on

At an orderly end `flush` waits for both, for a bounded time.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable
from queue import SimpleQueue

from fuseswap.errors import FuseswapError
from fuseswap.linux import syscalls, visible

MAX_LINES = 256
FLUSH_TIMEOUT_S = 2.0
STACK_BYTES = 256 * 1024
_LOCKED_STACK_BYTES = 128 * 1024  # json, and a traceback

Job = Callable[[], object]


class Scribe:
    """One thread that writes lines to ``fd`` and does jobs, in the order they came."""

    def __init__(self, fd: int, *, may_swap: bool) -> None:
        """``may_swap``: its memory may come from writing to swap.

        Not that of a worker: it could not be killed while it waits for itself.
        """
        self._fd = fd
        self._may_swap = may_swap
        self._queue: SimpleQueue[bytes | Job] = SimpleQueue()  # MAX_LINES, and each job once
        self._jobs: set[Job] = set()
        self._dropped = 0
        threading.stack_size(STACK_BYTES)  # it is locked in memory, whatever its size
        self._thread = threading.Thread(target=self._run, name="scribe", daemon=True)

    def start(self) -> None:
        """Begin to write; what came before has waited."""
        self._thread.start()

    def say(self, line: str) -> None:
        """Write ``line``, some time; it may have been made of what others sent."""
        if self._queue.qsize() >= MAX_LINES:
            self._dropped += 1
            return
        self._queue.put(visible.lines(line).encode(errors="replace") + b"\n")

    def do(self, job: Job) -> None:
        """Have ``job`` done, some time; what it raises goes into the log."""
        if job not in self._jobs:
            self._jobs.add(job)
            self._queue.put(job)

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait until what waits now is written; False where that took too long."""
        if not self._thread.is_alive():
            self.start()
        done = threading.Event()
        self._queue.put(done.set)
        return done.wait(timeout_s)

    def _run(self) -> None:
        syscalls.lock_stack(_LOCKED_STACK_BYTES)
        if self._may_swap:
            with contextlib.suppress(OSError):  # where it was never set, it can't be cleared
                syscalls.clear_io_flusher()  # nobody waits for us: we may wait for the swap
        while True:
            item = self._queue.get()
            if isinstance(item, bytes):
                self._write(item)
                continue
            self._jobs.discard(item)
            try:
                item()
            except (OSError, FuseswapError) as exc:
                self._write(f"{stamp()} cannot be written: {exc}\n".encode())
            except Exception:  # a mistake: all that comes after it is to be written all the same
                self._write(f"{stamp()} a job failed\n{traceback.format_exc()}".encode())
            del item  # not until the next one: it may hold a connection

    def _write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._fd, line)
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                os.write(self._fd, f"{stamp()} {dropped} lines were dropped\n".encode())


def stamp() -> str:
    """The time, as lines of the log begin."""
    return time.strftime("%Y-%m-%d %H:%M:%S")
