"""The worker's log: lines go through the scribe, since the serving thread must not wait.

Standard logging in front; format and level are settled here.
"""

from __future__ import annotations

import logging
import traceback
from types import TracebackType

from fuseswap.scribe import FLUSH_TIMEOUT_S, Scribe

_FORMAT = "%(asctime)s worker[%(process)d] %(levelname)s: %(message)s"
_Raised = tuple[type[BaseException], BaseException, TracebackType | None]


class PlacesFormatter(logging.Formatter):
    """A traceback as its places alone: to read the sources takes memory of the kernel."""

    def formatException(self, ei: _Raised | tuple[None, None, None]) -> str:  # noqa: N802
        """``FILE:LINE FUNCTION`` a line, outermost first, then the error."""
        kind, exc, tb = ei
        places = [
            f"  {frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
            for frame, line in traceback.walk_tb(tb)
        ]
        return "\n".join([*places, f"  {kind.__name__ if kind else None}: {exc}"])


class ScribeHandler(logging.Handler):
    """Formats here and now, and has the scribe write."""

    def __init__(self, scribe: Scribe) -> None:
        super().__init__()
        self._scribe = scribe

    def emit(self, record: logging.LogRecord) -> None:
        """One record; never waits."""
        self._scribe.say(self.format(record))


def open_log() -> Scribe:
    """Have everything that is logged written to standard error, once the scribe is started.

    That is after the process is locked in memory, so that its stack is not taken as a whole.
    """
    scribe = Scribe(2, may_swap=False)
    handler = ScribeHandler(scribe)
    handler.setFormatter(PlacesFormatter(_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    return scribe


def last_words(scribe: Scribe, exc: BaseException) -> None:
    """Why this worker ends, for a bounded time.

    The scribe makes the text: it reads the sources for it.
    """
    scribe.do(lambda: scribe.say("".join(traceback.format_exception(exc)).rstrip()))
    scribe.flush(FLUSH_TIMEOUT_S / 2)
    scribe.flush(FLUSH_TIMEOUT_S / 2)
