"""Reads from a tier, made again where they fail.

A page that cannot be read costs the process it belongs to its life.  So an error is not
believed at once: a read is tried `1 + len(_PAUSES_S)` times in all.  Bytes with a wrong
checksum are asked for once more by ``slowpath.py``, which knows it (a whole segment by
``writeback.py``), and counted here.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

import trio

from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)

_PAUSES_S = (0.01, 0.1)  # an answer of EIO took the kernel's driver its own tries already
_LOGGED_IN_A_ROW = 20

Done = Callable[["bytes | OSError"], None]
Begin = Callable[[int, int, int, Done], None]  # extent, offset and length


class TierReader:
    """Reads by ``begin`` (None: there is no tier).

    Counts ``units`` of 4096 bytes, ``retries``, and ``errors``: reads that failed for good.
    """

    def __init__(self, begin: Begin | None) -> None:
        self._begin = begin
        self.units = 0
        self.retries = 0
        self.errors = 0
        self._failed_in_a_row = 0

    def begin_read(
        self,
        extent: int,
        offset: int,
        length: int,
        done: Done,
        *,
        again: bool = False,
        patient: bool = True,
    ) -> None:
        """As `Tier.begin_read`.

        ``again``: the caller has read this before, and it was wrong: a retry of its own.
        Not ``patient``: it is tried once, and where that fails the caller asks in pieces.
        """
        if self._begin is None:
            done(OSError(errno.ENXIO, "there is none"))
            return
        self.retries += again
        if patient:
            self._try(extent, offset, length, done, 0)
        else:
            self._count(offset, length)
            self._begin(extent, offset, length, done)

    def _count(self, offset: int, length: int) -> None:
        self.units += -(-(offset % PAGE_SIZE + length) // PAGE_SIZE)

    def _try(self, extent: int, offset: int, length: int, done: Done, failures: int) -> None:
        assert self._begin is not None
        self._count(offset, length)

        def ended(outcome: bytes | OSError) -> None:
            if isinstance(outcome, bytes):
                self._failed_in_a_row = 0
                done(outcome)
            elif failures < len(_PAUSES_S):
                trio.lowlevel.spawn_system_task(
                    self._try_later, extent, offset, length, done, failures
                )
            else:
                self._note_error(f"extent {extent}, {length} bytes at {offset}: {outcome}")
                done(outcome)

        self._begin(extent, offset, length, ended)

    async def _try_later(
        self, extent: int, offset: int, length: int, done: Done, failures: int
    ) -> None:
        await trio.sleep(_PAUSES_S[failures])
        self.retries += 1
        self._try(extent, offset, length, done, failures + 1)

    def _note_error(self, what: str) -> None:
        self.errors += 1
        self._failed_in_a_row += 1
        if self._failed_in_a_row <= _LOGGED_IN_A_ROW:
            log.error("the tier cannot be read (%s)", what)
