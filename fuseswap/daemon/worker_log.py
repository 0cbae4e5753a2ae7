"""The worker's log: lines go through the scribe, since the serving thread must not wait.

Standard logging in front; format and level are settled here.
"""

from __future__ import annotations

import logging
import traceback
from types import TracebackType

from fuseswap.daemon.scribe import FLUSH_TIMEOUT_S, Scribe
from fuseswap.errors import places_of

_FORMAT = "%(asctime)s worker[%(process)d] %(levelname)s: %(message)s"
_Raised = tuple[type[BaseException], BaseException, TracebackType | None]


class PlacesFormatter(logging.Formatter):
    """A traceback as its places alone: see `places_of`."""

    def formatException(self, ei: _Raised | tuple[None, None, None]) -> str:  # noqa: N802
        """The places, the error, and its notes (`errors.kept`)."""
        kind, exc, tb = ei
        error = f"  {kind.__name__ if kind else None}: {exc}"
        notes = getattr(exc, "__notes__", ())
        return "\n".join(filter(None, [places_of(tb), error, *notes]))


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
