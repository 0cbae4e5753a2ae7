"""The whole store against a dict, with the invariants of the log after every step.

Hypothesis writes, discards, recompresses, switches and refuses in any order, and replaces
the worker in between.  The arena has room for fewer pages than the file, so that
stores are refused without being asked to.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from trio.testing import MockClock

from fuseswap.errors import BeyondEnd, StoreRefused
from fuseswap.filesystem.device import Device
from fuseswap.store.page_reader import ZERO_PAGE
from fuseswap.units import MIB, PAGE_SIZE, PageNumber, page_range
from tests.support import pages
from tests.support.effort import scaled
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import SMALL, SharedMemory, fronted_of, set_patience
from tests.support.recompressed_devices import at_once, recompress

pytestmark = pytest.mark.slow

PAGES = SMALL.page_count
SIZE = PAGES * PAGE_SIZE
LONGEST_RUN = 300  # more raw pages than a segment takes

MAKERS: dict[str, Callable[[int], bytes]] = {
    "zero": lambda seed: pages.ZERO,
    "fits": pages.filled,
    "repeats": lambda seed: pages.filled(seed << 32 | seed),
    "fits_not": lambda seed: pages.filled(1 << 60 | seed),
    "compressible": pages.compressible,
    "related": pages.related,
    "hexadecimal": pages.hexadecimal,
    "nearly": pages.nearly_incompressible,
    "incompressible": pages.incompressible,
}

kinds = st.sampled_from(sorted(MAKERS))
# Mostly few pages, which meet again and again, at the edges of clusters and of the file.
page_numbers = st.sampled_from([0, 1, 2, 510, 511, 512, 1023, 1024, PAGES - 1]) | st.integers(
    0, PAGES - 1
)
seeds = st.integers(0, 7)
runs = st.integers(1, 4) | st.just(LONGEST_RUN)
in_page = st.just(0) | st.integers(0, PAGE_SIZE - 1)
lengths = st.integers(1, 3 * PAGE_SIZE) | st.sampled_from([1, 512, PAGE_SIZE, 2 * PAGE_SIZE])


@dataclass(frozen=True, slots=True)
class Change:
    """What one request does to one page: a store, a discard, or nothing at all."""

    page: int
    stores: bytes | None
    discards: bool = False
    whole: bool = False  # a whole page of a write


class StoreModel(RuleBasedStateMachine):
    """``model`` holds the stored pages; a page not in it is a hole."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = SharedMemory()
        self.model: dict[int, bytes] = {}
        self.touched: set[int] = set()
        self.limit = 4
        self.limit_hits = 0
        self.compressor = "lz4"

    @initialize()
    def first_worker(self) -> None:
        self.start_worker()

    def start_worker(self, *, lazy: bool = False) -> None:
        self.device = Device(self.memory.attach(), lazy=lazy, submit=at_once)
        self.device.cache.encoder.set_compressor(self.compressor)
        self.device.cache.pool_limit_bytes = self.limit * MIB
        set_patience(
            self.device.frontswap, None
        )  # refuse at once; for waiting see test_writeback_model.py

    # -- what requests do ------------------------------------------------------------

    def changes(self, offset: int, data: bytes, *, punch: bool) -> list[Change]:
        """The changes of a write, or of a punch (whose ``data`` is zeros), in order."""
        found = []
        done = 0
        while done < len(data):
            page, start = divmod(offset + done, PAGE_SIZE)
            piece = data[done : done + PAGE_SIZE - start]
            old = self.model.get(page)
            if len(piece) == PAGE_SIZE:
                found.append(
                    Change(page, None if punch else piece, discards=punch, whole=not punch)
                )
            elif old is None and not any(piece):
                found.append(Change(page, None))
            else:
                old = old or ZERO_PAGE
                changed = old[:start] + piece + old[start + len(piece) :]
                if changed == ZERO_PAGE:  # a hole says the same and costs nothing
                    found.append(Change(page, None, discards=True))
                else:
                    found.append(Change(page, changed))
            done += len(piece)
        return found

    def apply(self, changes: list[Change], stored: int, *, refused: bool) -> None:
        """Apply to the model what ``stored`` stores, and a refusal after them, should have done."""
        for index, change in enumerate(changes):
            self.touched.add(change.page)
            if change.stores is None:
                if change.discards:
                    self.model.pop(change.page, None)
                continue
            if stored == 0:
                assert refused, "fewer pages were stored than were written"
                self.model.pop(change.page, None)  # a hole, never stale
                self.check_refusal(change.stores)
                self.forget_rest(changes[index + 1 :])
                return
            self.model[change.page] = change.stores
            stored -= 1
        assert stored == 0
        assert not refused, "refused, though every page was stored"

    def forget_rest(self, changes: list[Change]) -> None:
        """A refused write leaves holes after the page that was refused."""
        for change in changes:
            self.touched.add(change.page)
            if change.whole:
                self.model.pop(change.page, None)

    def check_refusal(self, data: bytes) -> None:
        """A store is refused where the pool is full or the switch is off, and not otherwise."""
        cache = self.device.cache
        same_filled = (
            data == data[:8] * (PAGE_SIZE // 8) and cache.encoder.same_filled_pages_enabled
        )
        switched_off = not cache.encoder.non_same_filled_pages_enabled and not same_filled
        assert switched_off or cache.full_pool.counters.pool_limit_hit > self.limit_hits

    def request(self, offset: int, data: bytes, *, punch: bool = False) -> None:
        changes = self.changes(offset, data, punch=punch)
        before = self.device.frontswap.statistics()
        self.limit_hits = self.device.cache.full_pool.counters.pool_limit_hit
        refused = False
        try:
            if punch:
                self.device.swapfile.punch(offset, len(data))
            else:
                self.device.swapfile.write(offset, memoryview(data))
        except StoreRefused:
            refused = True
        after = self.device.frontswap.statistics()
        assert after.failed_stores - before.failed_stores == refused
        self.apply(changes, after.succ_stores - before.succ_stores, refused=refused)

    # -- rules -----------------------------------------------------------------------

    @rule(page=page_numbers, kind=kinds, seed=seeds, count=runs)
    def write_pages(self, page: int, kind: str, seed: int, count: int) -> None:
        count = min(count, PAGES - page)
        data = [MAKERS[kind](seed + n % 5) for n in range(count)]
        self.request(page * PAGE_SIZE, b"".join(data))

    @rule(page=page_numbers, start=in_page, length=lengths, kind=kinds, seed=seeds)
    def write_bytes(self, page: int, start: int, length: int, kind: str, seed: int) -> None:
        offset = page * PAGE_SIZE + start
        data = (MAKERS[kind](seed) * 3)[: min(length, SIZE - offset)]
        self.request(offset, data)

    @rule(page=page_numbers, start=in_page, length=lengths | st.sampled_from([MIB, 2 * MIB, SIZE]))
    def punch(self, page: int, start: int, length: int) -> None:
        offset = page * PAGE_SIZE + start
        self.request(offset, bytes(min(length, SIZE - offset)), punch=True)

    @rule(page=page_numbers, start=in_page, length=lengths)
    def read(self, page: int, start: int, length: int) -> None:
        offset = page * PAGE_SIZE + start
        expected = b"".join(
            self.model.get(n, ZERO_PAGE) for n in range(page, min(page + 4, PAGES))
        )[start : start + length]
        assert self.device.swapfile.read(offset, length) == expected

    @rule(beyond=st.integers(0, PAGE_SIZE))
    def write_beyond_the_end(self, beyond: int) -> None:
        with pytest.raises(BeyondEnd):
            self.device.swapfile.write(SIZE + beyond, memoryview(pages.incompressible(0)))

    @rule(page=page_numbers)
    def seek(self, page: int) -> None:
        swapfile = self.device.swapfile
        data = min((n for n in self.model if n >= page), default=None)
        hole = next(n for n in range(page, PAGES + 1) if n not in self.model)
        assert swapfile.seek_data(page * PAGE_SIZE) == (None if data is None else data * PAGE_SIZE)
        assert swapfile.seek_hole(page * PAGE_SIZE) == hole * PAGE_SIZE

    @rule(name=st.sampled_from(["lz4", "zstd:1", "zstd:9"]))
    def change_compressor(self, name: str) -> None:
        self.compressor = name
        self.device.cache.encoder.set_compressor(name)

    @rule(frames=st.integers(0, 5))
    def change_pool_limit(self, frames: int) -> None:
        self.limit = frames
        self.device.cache.pool_limit_bytes = frames * MIB

    @rule(same_filled=st.booleans(), others=st.sampled_from([True, True, False]))
    def switch_kinds(self, same_filled: bool, others: bool) -> None:
        self.device.cache.encoder.same_filled_pages_enabled = same_filled
        self.device.cache.encoder.non_same_filled_pages_enabled = others

    @rule(switch=st.sampled_from(["auto", "auto", "on", "off"]))
    def switch_dedup(self, switch: str) -> None:
        self.device.cache.dedup.set_switch(switch)

    @rule(steps=st.integers(1, 40) | st.just(200))
    def sweep(self, steps: int) -> None:
        for _ in range(steps):
            self.device.sweep.merger.step()
        self.touched.update(self.model)

    @rule(keep=st.integers(0, 2), reserve=st.integers(0, 2))
    def idle(self, keep: int, reserve: int) -> None:
        self.device.cache.log.frames.trim(keep)
        self.device.cache.log.frames.reserve(reserve)

    @rule(
        page=page_numbers,
        kind=st.sampled_from(["related", "related", "hexadecimal", "compressible"]),
        seed=seeds,
        count=runs,
        knows=st.none() | st.integers(0, 2),
    )
    def recompress(self, page: int, kind: str, seed: int, count: int, knows: int | None) -> None:
        """What is there and some more; with another dictionary, old ones are kept while needed."""
        self.write_pages(page, kind, seed, count)
        if knows is not None:
            self.add_dictionary(knows)
        trio.run(recompress, self.device.recompression, clock=MockClock())
        self.touched.update(self.model)

    def add_dictionary(self, knows: int) -> None:
        phrases = random.Random(knows).sample(pages.PHRASES, 300)
        self.device.cache.dictionaries.add(b"".join(phrases))

    @rule(page=page_numbers, count=runs, seed=seeds, knows=st.permutations([0, 1, 2]))
    def turn_over(self, page: int, count: int, seed: int, knows: list[int]) -> None:
        """There is room; some pages get one dictionary, then another is in use, a minute later."""
        self.device.cache.pool_limit_bytes = SMALL.frame_count * MIB
        self.recompress(page, "related", seed, count, knows[0])
        self.add_dictionary(knows[1])
        retirement = self.device.recompression.retirement
        retirement._next_look = 0.0
        retirement._rests.clear()
        retirement._looked_at.clear()
        while self.device.frontswap.adopt_some():
            pass
        trio.run(recompress, self.device.recompression, clock=MockClock())
        self.device.cache.pool_limit_bytes = self.limit * MIB
        self.touched.update(self.model)

    @rule()
    def drop_dictionaries(self) -> None:
        while self.device.frontswap.adopt_some():
            pass
        self.device.recompression.dictionaries.drop_unused()
        self.touched.update(self.model)

    @rule(orderly=st.booleans())
    def next_worker(self, orderly: bool) -> None:
        """The old worker goes, in order or not; the next one finds all that was stored."""
        while self.device.frontswap.adopt_some():
            pass
        if orderly:
            self.device.cache.close()
        before = self.device.cache.log.table
        old = (before.live[:], before.live_bytes[:], before.segments(), before.in_use)
        self.start_worker()
        after = self.device.cache.log.table
        known = len(after.live)
        assert (after.live, after.live_bytes) == (old[0][:known], old[1][:known])
        assert (after.segments(), after.in_use) == old[2:]
        self.touched.update(list(self.model)[:50])

    @rule()
    def next_lazy_worker(self) -> None:
        """It serves at once, and has not counted what its predecessor left."""
        self.start_worker(lazy=True)
        self.touched.update(list(self.model)[:50])

    @rule(clusters=st.integers(1, 3))
    def count_some(self, clusters: int) -> None:
        self.device.frontswap.adopt_some(clusters)

    # -- after every step ------------------------------------------------------------

    @invariant()
    def the_log_is_sound(self) -> None:
        if self.device.cache.adopting:
            assert self.device.cache.log.table.in_use <= SMALL.segment_count
            return
        check_invariants(fronted_of(self.device))

    @invariant()
    def just_what_was_stored_is_stored(self) -> None:
        slots = self.device.cache.slots
        stored = {
            first + n for first, words in slots.clusters() for n, word in enumerate(words) if word
        }
        assert stored == set(self.model)

    @invariant()
    def memory_is_what_is_held(self) -> None:
        cache = self.device.cache
        assert self.memory.allocated_bytes("slots") == cache.slots.allocated_bytes
        assert self.memory.allocated_bytes("arena") == cache.log.frames.held * MIB

    @invariant()
    def touched_pages_have_their_contents(self) -> None:
        for page in self.touched:
            assert self.device.frontswap.load(PageNumber(page)) == self.model.get(page)
        self.touched.clear()

    def teardown(self) -> None:
        try:
            if hasattr(self, "device"):
                for page in page_range(0, PAGES):
                    assert self.device.frontswap.load(page) == self.model.get(page)
                while self.device.frontswap.adopt_some():
                    pass
                check_invariants(fronted_of(self.device))
                assert self.device.cache.reader.counters.checksum_errors == 0
        finally:
            self.memory.close()


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(
    max_examples=scaled(100),
    stateful_step_count=40,
    deadline=None,
    derandomize="CI" in os.environ,
    phases=set(Phase) - {Phase.explain},  # it takes minutes and explains nothing here
    suppress_health_check=[HealthCheck.too_slow],
)
