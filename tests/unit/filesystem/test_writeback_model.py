"""Writeback, recompression, cleaner, slow path, tiers, next worker against a dict, in any order.

Hypothesis draws what happens: stores that may wait, discards, loads, tiers that come, are drained
and go, and when each read or write of a tier or job of the thread ends, and how.  After every
step all tasks are blocked, the log is sound and what was touched reads back.
"""

from __future__ import annotations

import contextlib
import errno
import random
from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import InvalidArgument, StoreRefused
from fuseswap.reclaim.page_ranges import in_pieces
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.reclaim.scrub_request import ScrubRequest
from fuseswap.store.page_reader import ZERO_PAGE
from fuseswap.units import MIB
from tests.support import pages
from tests.support.fake_tier import FakeTier
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import SharedMemory
from tests.support.models import Step, model_settings, play
from tests.support.recompressed_devices import HeldJobs
from tests.support.tiered_devices import EXTENTS, TIERED, Tiered, dense

pytestmark = pytest.mark.slow

LONGEST_REST_S = 60

KINDS: dict[str, Callable[[int], bytes]] = {
    "dense": dense,
    "incompressible": pages.incompressible,
    "fill": pages.filled,
    "related": pages.related,
    "related few": lambda seed: pages.related(seed % 9),
    "twin": lambda seed: dense(seed // 2),  # neighbours are the same
    "one of few": lambda seed: dense(seed % 9),
}
# Runs of pages, some longer than a segment; all within a file twice as large as the pool.
firsts = st.integers(0, 10).map(lambda n: n * 200)
counts = st.sampled_from([1, 3, 50, 300, 700])
strides = st.sampled_from([1, 1, 2, 5])
kinds = st.sampled_from(
    ["dense", "dense", "incompressible", "fill", "twin", "one of few", "related", "related few"]
)

steps = st.one_of(
    st.tuples(st.just("store"), firsts, counts, strides, kinds, st.integers(0, 3)),
    st.tuples(st.just("store"), firsts, counts, strides, kinds, st.integers(0, 3)),
    st.tuples(st.just("discard"), firsts, counts, strides),
    st.tuples(st.just("load"), firsts, counts, strides),
    st.tuples(st.just("change"), firsts),
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("end_write"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("end_write"), st.integers(0, 3), st.just(True)),
    st.tuples(st.just("clean"), st.integers(1, 5)),
    st.tuples(st.just("rest"), st.sampled_from([0.05, 0.5, LONGEST_REST_S])),
    st.tuples(st.just("limit"), st.sampled_from([4, 6, 8])),
    st.tuples(st.just("recompress"), st.integers(1, 100), st.none() | st.integers(0, 2)),
    st.tuples(st.just("recompress"), st.integers(1, 100), st.integers(0, 2)),
    st.tuples(st.just("turn_over"), firsts, st.integers(1, 100), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("write_back")),
    st.tuples(st.just("write_some_back"), firsts, counts, strides, st.booleans()),
    st.tuples(st.just("write_some_back"), firsts, counts, strides, st.booleans()),
    st.tuples(st.just("hold_jobs"), st.booleans()),
    st.tuples(st.just("end_jobs"), st.integers(1, 100)),
    st.tuples(st.just("dedup"), st.sampled_from(["auto", "on", "off"])),
    st.tuples(st.just("dedup"), st.sampled_from(["on", "off"])),
    st.tuples(st.just("sweep"), st.integers(1, 20) | st.just(300)),
    st.tuples(st.just("next_worker")),
)
# Two tiers: most draws have steps of these too.
names = st.sampled_from(["fake", "far"])
tier_steps = st.one_of(
    st.tuples(st.just("add"), names),
    st.tuples(st.just("set"), names, st.sampled_from(["drain=Y", "drain=Y", "drain=N"])),
    st.tuples(st.just("set"), names, st.sampled_from(["priority=3", "priority=-3", "limit=2M"])),
    st.tuples(st.just("empty"), names, st.just(0)),
    st.tuples(st.just("empty"), names, strides),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("hold_reads"), st.booleans()),
    st.tuples(st.just("load_later"), firsts, counts, strides),
    st.tuples(st.just("load_later"), firsts, counts, strides),
    st.tuples(st.just("end_read"), st.integers(0, 3)),
    st.tuples(st.just("rest"), st.sampled_from([0.6, LONGEST_REST_S])),
    st.tuples(st.just("scrub")),
)


def run_of(first: int, count: int, stride: int) -> range:
    return range(first, min(first + count * stride, TIERED.page_count), stride)


class Model:
    """The rules; ``tiered.expected`` is the dict."""

    def __init__(self, memory: SharedMemory, nursery: trio.Nursery, clock: MockClock) -> None:
        self.memory = memory
        self.nursery = nursery
        self.clock = clock
        self.tiers = {"fake": FakeTier(EXTENTS), "far": FakeTier(EXTENTS, "far")}
        self.there = ["fake"]
        self.scope = trio.CancelScope()
        self.waiting: set[trio.CancelScope] = set()
        self.tiered = Tiered(memory, self.tiers["fake"])
        self.start()

    def start(self) -> None:
        self.scope = trio.CancelScope()
        self.jobs = HeldJobs()
        self.jobs.holds = False
        self.tiered.device.recompression.thread._submit = self.jobs.submit
        self.nursery.start_soon(self.run_worker, self.tiered, self.scope)

    async def run_worker(self, tiered: Tiered, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tiered.writeback.run)
                nursery.start_soon(tiered.device.recompression.run)
                nursery.start_soon(tiered.device.mover.run)
                nursery.start_soon(tiered.device.scrubber.run)

    async def store(self, first: int, count: int, stride: int, kind: str, seed: int) -> None:
        """In a task: it may wait for a write that a later step ends."""

        async def store_all(tiered: Tiered) -> None:
            for page in run_of(first, count, stride):
                try:
                    with trio.CancelScope() as mine:
                        self.waiting.add(mine)
                        await tiered.write(page, KINDS[kind](page + seed))
                    self.waiting.discard(mine)
                    if mine.cancelled_caught:
                        return
                except StoreRefused:
                    continue

        self.nursery.start_soon(store_all, self.tiered)

    async def discard(self, first: int, count: int, stride: int) -> None:
        for page in run_of(first, count, stride):
            self.tiered.discard(page)

    async def load(self, first: int, count: int, stride: int) -> None:
        await self.hold_reads(False)
        for page in run_of(first, count, stride):
            assert await self.tiered.read(page) == self.tiered.expected.get(page, ZERO_PAGE)

    async def load_later(self, first: int, count: int, stride: int) -> None:
        """In tasks: they may wait for reads that later steps end."""

        async def load(tiered: Tiered, page: int) -> None:
            with trio.CancelScope() as mine:
                self.waiting.add(mine)
                before = tiered.expected.get(page)
                found = await tiered.read(page)
                if tiered.expected.get(page) is before:
                    assert found == (before or ZERO_PAGE), f"page {page}"
            self.waiting.discard(mine)

        for page in run_of(first, min(count, 20), stride):
            self.nursery.start_soon(load, self.tiered, page)

    async def change(self, page: int) -> None:
        """Bytes within a page, in a task: it may wait."""

        async def write(tiered: Tiered) -> None:
            with trio.CancelScope() as mine:
                self.waiting.add(mine)
                with contextlib.suppress(StoreRefused):
                    await tiered.write_at(page, 8, b"some")
            self.waiting.discard(mine)

        self.nursery.start_soon(write, self.tiered)

    async def hold(self, hold: bool) -> None:
        for tier in self.tiers.values():
            tier.hold_writes = hold

    async def end_write(self, number: int, succeeds: bool) -> None:
        if writes := [write for tier in self.tiers.values() for write in tier.writes]:
            write = writes[number % len(writes)]
            (write.finish if succeeds else write.fail)()

    async def hold_reads(self, hold: bool) -> None:
        for tier in self.tiers.values():
            tier.hold_reads = hold
        while not hold and await self.end_read(0):
            await wait_all_tasks_blocked()

    async def end_read(self, number: int) -> bool:
        reads = [read for tier in self.tiers.values() for read in tier.reads]
        if reads:
            reads[number % len(reads)].finish()
        return bool(reads)

    async def add(self, name: str) -> None:
        """A tier comes, with what is left there from before it went."""
        if name not in self.there:
            self.tiered.device.add_tier(self.tiers[name])
            self.there.append(name)

    async def set(self, name: str, word: str) -> None:
        if name in self.there:
            self.tiered.device.set_tier_policy(name, [word])

    async def empty(self, name: str, stride: int) -> None:
        """Drained for a while, and gone if that was enough; with reads of loads under way there."""
        if stride:
            self.tiers[name].hold_reads = True
            await self.load_later(0, 20, stride)
            await wait_all_tasks_blocked()
            self.tiers[name].hold_reads = False
        await self.set(name, "drain=Y")
        for _ in range(4):
            await wait_all_tasks_blocked()
            self.clock.jump(0.6)
        await wait_all_tasks_blocked()
        await self.remove(name)

    async def remove(self, name: str) -> None:
        """If nothing is there; reads that are under way from it fail, as of a closed file."""
        if name not in self.there:
            return
        try:
            self.tiered.device.remove_tier(name)
        except InvalidArgument:
            return
        self.there.remove(name)
        tier = self.tiers[name]
        assert not tier.writes
        for held in list(tier.reads):
            held.fail(errno.EBADF)
        for extent in tier.extents.values():
            extent[:] = bytes(len(extent))

    async def scrub(self) -> None:
        self.tiered.device.scrubber.ask(ScrubRequest.parse("all"))

    async def clean(self, count: int) -> None:
        for _ in range(count):
            self.tiered.writeback.cleaner.step()

    async def recompress(self, count: int, knows: int | None) -> None:
        """All of it, for as long as ``count`` jobs take; with another dictionary, or not."""
        if knows is not None:
            self.add_dictionary(knows)
        self.tiered.device.recompression.ask(ReclaimRequest.parse("all"))
        await self.end_jobs(count)

    def add_dictionary(self, knows: int) -> None:
        phrases = random.Random(knows).sample(pages.PHRASES, 300)
        self.tiered.cache.dictionaries.add(b"".join(phrases))

    async def turn_over(self, first: int, count: int, knows: int, leaves: bool) -> None:
        """Some pages get a dictionary and may leave; with another in use, the old one goes.

        As far as ``count`` jobs do it, and there is room.
        """
        await self.limit(8)
        await self.store(first, 50, 1, "related", 0)
        await wait_all_tasks_blocked()
        await self.recompress(count, knows)
        if leaves:
            await self.write_back()
            await wait_all_tasks_blocked()
        self.add_dictionary(3 - knows)
        retirement = self.tiered.device.recompression.retirement
        retirement._next_look = 0.0
        retirement._rests.clear()
        retirement._looked_at.clear()
        self.tiered.device.recompression._wanted.set()
        await self.end_jobs(count)

    async def write_back(self) -> None:
        """All that is in memory now."""
        if self.there:
            self.tiered.writeback.ask(ReclaimRequest.parse("all"))

    async def write_some_back(self, first: int, count: int, stride: int, more: bool) -> None:
        """Pages by their numbers, those beside them not."""
        if self.there:
            text, _ = next(in_pieces(run_of(first, count, stride)))
            order = f"pages={text}{' more' * more}"
            self.tiered.writeback.ask(ReclaimRequest.parse(order, leaves=True))

    async def hold_jobs(self, hold: bool) -> None:
        self.jobs.holds = hold

    async def end_jobs(self, count: int) -> None:
        """Of the thread; time passes between them."""
        for _ in range(count):
            if self.jobs.held:
                self.jobs.run()
            await wait_all_tasks_blocked()
            self.clock.jump(0.01)

    async def rest(self, seconds: float) -> None:
        self.clock.jump(seconds)

    async def dedup(self, switch: str) -> None:
        self.tiered.cache.dedup.set_switch(switch)

    async def sweep(self, count: int) -> None:
        for _ in range(count):
            self.tiered.device.sweep.merger.step()

    async def limit(self, frames: int) -> None:
        if frames >= self.tiered.log.frames.in_use:
            self.tiered.cache.pool_limit_bytes = frames * MIB

    async def next_worker(self) -> None:
        """The old one ends where it stands, its stores unanswered."""
        self.scope.cancel()
        self.tiered.pending_io.stop()
        for waiting in list(self.waiting):
            waiting.cancel()
        await wait_all_tasks_blocked()
        expected = self.tiered.expected
        for tier in self.tiers.values():
            tier.reads.clear()
        there = [self.tiers[name] for name in self.there]
        self.tiered = Tiered(self.memory, there[0] if there else None)
        for tier in there[1:]:
            self.tiered.device.add_tier(tier)
        self.tiered.expected = expected
        self.start()

    async def check(self) -> None:
        check_invariants(self.tiered.cache, passing=1)
        tiered = self.tiered
        assert tiered.cache.slots.stored_pages == len(tiered.expected)
        writes = {name: len(tier.writes) for name, tier in self.tiers.items()}
        assert sum(writes.values()) <= tiered.device.in_flight.batch_size + 1
        where = tiered.log.table.on_tier
        places = [where(tiered.segment_of(page)) for page in tiered.on_tier()]
        taken = {found[1] for found in places if found}
        for entry in tiered.device.tiers:
            assert entry.tier is not None, f"{taken} is not there"
            kept = [location for location in taken if location.tier == entry.number]
            # The mover has taken one, and reads from the old place.
            moving = entry.extents.in_use - len(kept) - writes[entry.tier.name]
            assert moving in (0, 1)
        assert not tiered.device.scrubber.request.told
        assert not tiered.device.reader.errors

    async def settle(self) -> None:
        """Moves end, too: one whose write is held has a frame on its way."""
        await self.hold_reads(False)
        await self.hold(False)
        while any(tier.writes for tier in self.tiers.values()):
            await self.end_write(0, True)
            await wait_all_tasks_blocked()
        for _ in range(4):  # reads that failed are tried again
            self.clock.jump(1)
            await wait_all_tasks_blocked()
        await self.check()
        await self.tiered.check()


@model_settings
@given(st.lists(steps, min_size=8, max_size=40))
def test_nothing_is_lost_whatever_happens_in_whatever_order(drawn: list[Step]) -> None:
    play(Model, drawn)


@model_settings
@given(st.lists(st.one_of(steps, tier_steps, tier_steps), min_size=8, max_size=40))
def test_nothing_is_lost_while_tiers_come_and_go(drawn: list[Step]) -> None:
    play(Model, [("add", "far"), *drawn])
