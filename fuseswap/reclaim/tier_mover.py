"""The tier mover: segments go from tier to tier, whole, by relocation.

    drained   a tier that is to be emptied: its segments go to the others, or into memory where
              there is no other and room
    demoted   a tier that is nearly full or at its limit: its oldest segments go to one of a lower
              priority, so that what leaves memory next finds room on the faster one

One task goes round the segments of such a tier in slices.  There is no list of them: a tier of
1 TiB has a million.  One segment moves at a time, in a task of its own.  Its frame is one that
stores can't have.  A tier that does not answer keeps that task, and the round goes on without it.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

import trio

from fuseswap.counting import counter, zeros
from fuseswap.errors import PoolFull, kept
from fuseswap.reclaim.destinations import Destinations
from fuseswap.reclaim.relocation import NotWritten, Outcome, Relocation
from fuseswap.reclaim.write_account import WriteAccount
from fuseswap.reclaim.writeback_statistics import WritebackStatistics
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.segment_places import on_tier
from fuseswap.tiers.callbacks import Answer
from fuseswap.tiers.tier_table import TierEntry, TierTable
from fuseswap.tiers.write_budget import Budget
from fuseswap.units import NO_SEGMENT, SEGMENT_BYTES, Location, SegmentId

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
_SLICE = 512  # segments looked at in a turn, about 1 ms
_AT_ONCE = 16  # of the oldest segments, found in one round
_AHEAD_SHARE = 32  # of a tier's extents are kept free, where there is a lower tier
_MOST_AHEAD = 16
_SET_ASIDE_S = 30.0  # a segment that can't be read
_MOST_STUCK = 64
_MOST_UNANSWERED = 3  # moves whose tiers do not answer; each has a frame


@dataclass(slots=True)
class MoverCounters:
    """Segments that went from one tier to another place."""

    demoted_segments: int = counter("Segments that moved on to a tier of a lower priority.")
    drained_segments: int = counter("Segments that left a tier which is being emptied.")
    stuck_moves: int = counter("Moves between tiers that failed; they are tried again.")


class TierMover:
    """Moves segments of ``segment_log`` between ``tiers``."""

    def __init__(
        self,
        segment_log: SegmentLog,
        tiers: TierTable,
        destinations: Destinations,
        relocation: Relocation,
        budget: Budget,
        counters: WritebackStatistics,
    ) -> None:
        self._log = segment_log
        self._tiers = tiers
        self._destinations = destinations
        self._relocation = relocation
        self._budget = budget
        self._write_counters = counters
        self._counters = zeros(MoverCounters)
        self._called = trio.Event()
        # Until when a segment that could not be read is left alone; of each round the first
        # `_MOST_STUCK` are tried, so there are at most as many.
        self._set_aside: dict[SegmentId, float] = {}
        # `_MOST_UNANSWERED` that are not waited for any more, and one that is.
        self._under_way: set[SegmentId] = set()

    def call(self) -> None:
        """A policy has changed: look at once."""
        self._called.set()

    async def run(self) -> None:
        """Move what is due.  Never returns."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._round(nursery)
                with trio.move_on_after(_LOOK_EVERY_S):
                    await self._called.wait()
                self._called = trio.Event()

    def first_on(self, tier: int) -> SegmentId:
        """A segment that is on ``tier``, or 0."""
        table = self._log.table
        for segment in table.places.walk((on_tier(tier),)):
            where = table.location_of(segment)
            if isinstance(where, Location) and where.tier == tier:
                return segment
        return NO_SEGMENT

    # -- one round -------------------------------------------------------------------

    async def _round(self, nursery: trio.Nursery) -> None:
        """Drain, find the oldest and demote these: tiers that need neither are not looked at."""
        if not self._destinations:
            return
        for segment in list(self._set_aside):
            self._is_set_aside(segment)
        for entry in list(self._tiers):
            if self._drains(entry):
                async with aclosing(self._on_tier(entry.number)) as found:
                    async for segment in found:
                        await self._drain(nursery, segment, entry.number)
            elif self._is_short(entry):
                await self._demote_oldest(nursery, entry)

    async def _demote_oldest(self, nursery: trio.Nursery, entry: TierEntry) -> None:
        oldest: list[tuple[int, SegmentId]] = []
        async with aclosing(self._on_tier(entry.number)) as found:
            async for segment in found:
                if segment not in self._set_aside:
                    _keep_oldest(oldest, -self._log.table.sequence_of(segment), segment)
        for _, segment in sorted(oldest, reverse=True):
            if not self._is_short(entry) or not await self._demote(nursery, entry, segment):
                break

    async def _on_tier(self, tier: int) -> AsyncGenerator[SegmentId, None]:
        """Segments on ``tier``, with a turn for others after each `_SLICE`."""
        table, kind = self._log.table, on_tier(tier)
        segment, looked = table.places.next_of(kind, NO_SEGMENT), 0
        while segment:
            where = table.location_of(segment)
            if isinstance(where, Location) and where.tier == tier:
                yield segment
            looked += 1
            if looked % _SLICE == 0:
                await trio.lowlevel.checkpoint()
            segment = table.places.next_of(kind, segment)
        await trio.lowlevel.checkpoint()

    def _is_short(self, entry: TierEntry) -> bool:
        """Whether ``entry`` is to get room, and there is a lower tier for its segments."""
        if entry.tier is None or entry.policy.draining or self._log.adopting:
            return False
        ahead = max(1, min(_MOST_AHEAD, entry.most_segments // _AHEAD_SHARE))
        below = self._destinations.exist(below=entry.policy.priority)
        return below and entry.available < ahead and self._budget.affords(SEGMENT_BYTES)

    def _drains(self, entry: TierEntry) -> bool:
        return entry.policy.draining and entry.extents.in_use > 0 and not self._log.adopting

    def _is_set_aside(self, segment: SegmentId) -> bool:
        until = self._set_aside.get(segment)
        if until is not None and until <= trio.current_time():
            del self._set_aside[segment]
            until = None
        return until is not None

    # -- one segment -----------------------------------------------------------------

    async def _drain(self, nursery: trio.Nursery, segment: SegmentId, tier: int) -> None:
        """Move ``segment`` off the tier, where there is a place for it."""
        if self._is_set_aside(segment) or len(self._set_aside) >= _MOST_STUCK:
            return
        target = self._destinations.choose()
        into_memory = target is None and not self._destinations.has_room
        if into_memory and self._log.frames.available <= 1:
            return
        if target is None and not into_memory:
            return  # the others rest: the next round tries
        if await self._move(nursery, segment, target):
            self._counters.drained_segments += 1

    async def _demote(self, nursery: trio.Nursery, entry: TierEntry, segment: SegmentId) -> bool:
        """Move one of the oldest on; False where there is no place for the next one either."""
        where = self._log.table.location_of(segment)
        target = self._destinations.choose(below=entry.policy.priority)
        if target is None:
            return False
        if isinstance(where, Location) and where.tier == entry.number:
            moved = await self._move(nursery, segment, target)
            self._counters.demoted_segments += moved
        return True

    async def _move(
        self, nursery: trio.Nursery, segment: SegmentId, target: TierEntry | None
    ) -> bool:
        """Relocate ``segment`` to ``target``, None: into memory; whether it is there by now."""
        if segment in self._under_way or len(self._under_way) >= _MOST_UNANSWERED:
            return False
        to = target.take() if target else None
        if to is None and target is not None:
            return False
        account: WriteAccount | None = None
        if target is not None:
            account = WriteAccount(self._budget, target.health, self._write_counters)
            account.begin(SEGMENT_BYTES)
        self._under_way.add(segment)
        answer: Answer[Outcome | None] = Answer()
        nursery.start_soon(self._relocate, segment, to, account, answer)
        with trio.move_on_after(self._tiers.timeout_s):
            return await answer.wait() is Outcome.MOVED
        self._leave_alone(segment, "a tier does not answer")
        return False

    async def _relocate(
        self,
        segment: SegmentId,
        to: Location | None,
        account: WriteAccount | None,
        answer: Answer[Outcome | None],
    ) -> None:
        outcome: Outcome | None = None
        error: OSError | None = None
        try:
            outcome = await self._relocation.relocate(self._log.table.ref(segment), to)
        except NotWritten as exc:
            error = kept(exc)
        except OSError as exc:
            self._leave_alone(segment, str(exc))
        except PoolFull:
            await trio.sleep(_LOOK_EVERY_S)
        finally:
            self._under_way.discard(segment)
        if account and (error or outcome in (Outcome.MOVED, Outcome.DIED)):
            account.end(SEGMENT_BYTES, error)
        elif account:
            account.give_up(SEGMENT_BYTES)
        answer(outcome)

    def _leave_alone(self, segment: SegmentId, reason: str) -> None:
        """It can't be read, so it stays where it is for a while."""
        self._counters.stuck_moves += 1
        if not self._set_aside:
            log.warning("segment %d stays on its tier: %s", segment, reason)
        self._set_aside[segment] = trio.current_time() + _SET_ASIDE_S

    def statistics(self) -> MoverCounters:
        """A snapshot."""
        return replace(self._counters)


def _keep_oldest(found: list[tuple[int, SegmentId]], key: int, segment: SegmentId) -> None:
    """Keep the `_AT_ONCE` with the largest ``key``, which is the sequence upside down."""
    if len(found) < _AT_ONCE:
        heapq.heappush(found, (key, segment))
    else:
        heapq.heappushpop(found, (key, segment))
