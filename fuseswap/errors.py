"""Every error that fuseswap raises on purpose.

Small and flat.  The store and the file raise these and know no errno.  Only
``transport/`` translates them (EINVAL, ENOSPC, EIO, ...).  Only ``cli/``
prints them, as one line that says what to do.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

E = TypeVar("E", bound=Exception)

_MAX_REASON = 200  # characters


class FuseswapError(Exception):
    """Base of all errors a caller is expected to handle."""


class InvalidArgument(FuseswapError):
    """A parameter, offset or size is not valid; nothing was changed."""


class Isolated(InvalidArgument):
    """It would have a page tell something of another."""

    def __init__(self) -> None:
        super().__init__("the device is isolated until `down`: no page tells anything of another")


class BeyondEnd(FuseswapError):
    """A write begins beyond the end of the swapfile; nothing was written."""


class NotPermitted(FuseswapError):
    """The file does not allow this (resizing the swapfile, writing a statistic)."""


class NoSuchFile(FuseswapError):
    """No entry of that name, or no inode of that number."""


class StoreRefused(FuseswapError):
    """No backend took the page; it is invalid everywhere and the kernel keeps it."""


class CompressesPoorly(StoreRefused):
    """The page compresses to more than ``max_compression_ratio`` allows."""


class PoolFull(StoreRefused):
    """The pool is at ``pool_limit_bytes`` and nothing could be freed."""


class OldInTheWay(PoolFull):
    """The same, but without the old version of the page there would be room for the new one."""


class NoMemory(StoreRefused):
    """The memory it needs is not there yet; it was ordered."""


class Deferred(FuseswapError):
    """This can't be answered at once, but `begin` goes on with it; see ``pending_io.py``.

    ``done`` counts the bytes of a write before that page: they are stored.
    ``taken``: the data of a whole page was taken; the rest of the write may go on meanwhile.
    ``patience_s``: what waits so long for it, in line, is refused; None: it waits on.
    """

    done = 0
    taken = False
    patience_s: float | None = None

    def begin(self, answer: Callable[[Any], None]) -> None:
        """Go on; ``answer`` is called once, at once or later.

        Of a load it gets the page.  Of a store that was taken it gets the word, or 0.  `RETRY`
        says to ask again, and an error is how it ended.
        """
        raise NotImplementedError


class Retry:
    """Instead of an answer that was deferred: the page has changed meanwhile, so ask again."""


RETRY = Retry()


class CorruptData(FuseswapError):
    """Stored data of one page does not match its checksum or its slot word."""


class StateMismatch(FuseswapError):
    """Shared state has a layout this version does not know; it was not touched."""


class HostError(FuseswapError):
    """The host refused something (mount, loop device, swap); says what to do."""


class MountFailed(HostError):
    """The file system did not come up (exit code 32)."""


def in_words(exc: BaseException) -> str:
    """``exc`` as a person reads it: of the system's errors the file and the words, no number."""
    if not isinstance(exc, OSError):
        return str(exc)
    named = exc.filename if isinstance(exc.filename, (str, bytes)) else ""
    return f"{os.fsdecode(named)}: " * bool(named) + (exc.strerror or str(exc))


def places_of(tb: TracebackType | None) -> str:
    """``FILE:LINE FUNCTION`` a line, outermost first.

    A whole traceback has lines of the sources: to read them takes memory of the kernel, for
    which the serving thread must not wait.
    """
    return "\n".join(
        f"  {frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(tb)
    )


def kept(exc: E) -> E:
    """``exc``, made fit to be kept past its except block: in an object, a list, another frame.

    A traceback holds the frames it went through and their callers', and these hold ``exc``
    again: a cycle of 8 to 10 KiB.  The garbage collector is off in the worker, so it is taken
    off here, with cause and context, which have their own.  An error that is none of
    fuseswap's or the system's keeps its places: that is how a mistake is found.
    """
    if exc.__traceback__ is not None and not isinstance(exc, FuseswapError | OSError):
        exc.add_note(places_of(exc.__traceback__))
    exc.__traceback__ = exc.__cause__ = exc.__context__ = None
    return exc


def reason_of(exc: BaseException) -> str:
    """Type and words of ``exc``, of other people's code, as one line of at most 200 characters."""
    try:
        text = " ".join(str(exc).split())
    except Exception:  # of a class that is somebody else's, too
        text = ""
    if isinstance(exc, Exception):
        kept(exc)  # its traceback may hold a page
    line = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    return line if len(line) <= _MAX_REASON else line[: _MAX_REASON - 3] + "..."
