"""Threads that come upon an error which was not foreseen: none goes away unnoticed.

    worker       what a thread was to make, others wait for, and would for ever.  So the worker
                 ends, as it does when the serving thread comes upon such an error, and the next
                 one begins with threads of its own
    supervisor   it goes on.  Its threads begin their loop again after a while

Both is said in the log at once, by the thread that it happens to, which may wait.
"""

from __future__ import annotations

import contextlib
import os
import threading
import traceback

from fuseswap.daemon.scribe import stamp

AGAIN_S = 5.0
EXIT_CODE = 1  # that of a worker whose serving thread ends so


def note_failure(exc: BaseException | None, what: str, fd: int = 2) -> None:
    """Write to the log ``fd`` that ``exc`` came of a thread, and ``what`` follows."""
    name = threading.current_thread().name
    text = "".join(traceback.format_exception(exc)) if exc else ""
    line = f"{stamp()} thread '{name}' of process {os.getpid()} failed, {what}\n{text}"
    with contextlib.suppress(OSError):
        os.write(fd, line.encode(errors="replace"))


def _end_process(args: threading.ExceptHookArgs) -> None:
    try:
        note_failure(args.exc_value, "and so its process ends")
    finally:
        os._exit(EXIT_CODE)


def end_with_any_thread() -> None:
    """From here on this process ends where one of its threads does by an error."""
    threading.excepthook = _end_process
