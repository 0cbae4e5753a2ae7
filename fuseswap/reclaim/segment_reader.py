"""Reads of whole segments from the tier, to be cleaned there or packed anew.

A segment that cannot be read is pinned, and left alone for 30 s.  So is one that does not come in
the time there is for it: whatever comes later is not heard.
"""

from __future__ import annotations

import errno
import math
from functools import partial

import trio

from fuseswap.store.segment_log import SegmentLog
from fuseswap.tiers.callbacks import await_callback
from fuseswap.tiers.tier_reader import TierReader
from fuseswap.units import SEGMENT_BYTES, SegmentId, SegmentRef

_SET_ASIDE_S = 30.0


class SegmentReader:
    """Segments of ``segment_log``, read through ``reader``."""

    def __init__(self, segment_log: SegmentLog, reader: TierReader) -> None:
        self._log = segment_log
        self._reader = reader
        # Until when, soonest first; each segment once, so as many as there are at most.
        self._set_aside: dict[SegmentRef, float] = {}

    async def read(
        self, segment: SegmentId, *, again: bool = False, patience_s: float = math.inf
    ) -> bytes | None:
        """The 1 MiB of ``segment``, which is on a tier.

        None where it has moved meanwhile, or cannot be read in ``patience_s``: then it is set
        aside.  Bytes of one that has gone mean nothing: look again.
        """
        table = self._log.table
        found = table.on_tier(segment)
        if found is None:
            return None
        ref, location = found
        outcome: bytes | OSError = OSError(errno.ETIMEDOUT, "it does not come")
        with trio.move_on_after(patience_s):
            outcome = await await_callback(
                partial(
                    self._reader.begin_read,
                    location,
                    ref.sequence,
                    0,
                    SEGMENT_BYTES,
                    again=again,
                    is_gone=lambda: not table.is_at(ref, location),
                )
            )
        if table.is_at(ref, location):
            if isinstance(outcome, bytes):
                return outcome
            table.pin(segment)
            self._set_aside.pop(ref, None)
            self._set_aside[ref] = trio.current_time() + _SET_ASIDE_S
            return None
        return None if table.is_current(ref) or isinstance(outcome, OSError) else outcome

    def take_back(self) -> None:
        """Segments whose time is over may be tried again."""
        now = trio.current_time()
        while self._set_aside:
            ref, until = next(iter(self._set_aside.items()))
            if until > now:
                return
            del self._set_aside[ref]
            if self._log.table.is_current(ref):
                self._log.table.unpin(ref.id)
