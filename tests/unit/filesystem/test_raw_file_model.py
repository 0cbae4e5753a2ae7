"""The in-place layout against a dict, in any order.

As ``test_writeback_model.py``, with pages that go to their places when they are stored,
copies, and parameters that change on the way.  Two writes of one page at once, which could
reach a device in either order, are an error of the fake file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.errors import Deferred, StoreRefused
from fuseswap.store.page_reader import ZERO_PAGE
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.fake_tier import FakePlaceFile
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import SharedMemory
from tests.support.models import Step, model_settings, play
from tests.support.tiered_devices import TIERED, Tiered, dense

pytestmark = pytest.mark.slow

LONGEST_REST_S = 60

KINDS: dict[str, Callable[[int], bytes]] = {
    "dense": dense,
    "half": lambda seed: pages.nearly_incompressible(seed, 1000 + seed * 37 % 2900),
    "incompressible": pages.incompressible,
    "fill": pages.filled,
    "twin": lambda seed: dense(seed // 2),  # neighbours are the same
    "one of few": lambda seed: dense(seed % 9),
}
firsts = st.integers(0, 10).map(lambda n: n * 200)
counts = st.sampled_from([1, 3, 50, 300, 700])
strides = st.sampled_from([1, 1, 2, 5])
kinds = st.sampled_from(["dense", "dense", "half", "incompressible", "fill", "twin", "one of few"])
stores = st.tuples(st.just("store"), firsts, counts, strides, kinds, st.integers(0, 3))

steps = st.one_of(
    stores,
    stores,
    st.tuples(st.just("store_one"), st.integers(0, 3), kinds, st.integers(0, 3)),
    st.tuples(st.just("discard"), firsts, counts, strides),
    st.tuples(st.just("load"), firsts, counts, strides),
    st.tuples(st.just("change"), firsts),
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("end_writes"), st.integers(0, 40), st.booleans()),
    st.tuples(st.just("end_writes"), st.integers(0, 40), st.just(True)),
    st.tuples(st.just("ratio"), st.integers(40, 100)),
    st.tuples(st.just("writethrough"), st.booleans()),
    st.tuples(st.just("budget"), st.sampled_from([None, 0, MIB, 3 * MIB + 5])),
    st.tuples(st.just("clean"), st.integers(1, 5)),
    st.tuples(st.just("rest"), st.sampled_from([0.05, 0.5, LONGEST_REST_S])),
    st.tuples(st.just("limit"), st.sampled_from([4, 6, 8])),
    st.tuples(st.just("dedup"), st.sampled_from(["auto", "on", "off"])),
    st.tuples(st.just("dedup"), st.sampled_from(["on", "off"])),
    st.tuples(st.just("sweep"), st.integers(1, 20) | st.just(300)),
    st.tuples(st.just("next_worker")),
)


@dataclass
class Open:
    """Writes of one page that are not answered: what it may read as, and what comes of them."""

    versions: list[bytes]
    outcomes: list[bytes | None] = field(default_factory=list)


class Model:
    """The rules; ``expected`` is the dict.  Pages with writes not answered are in ``open``."""

    def __init__(self, memory: SharedMemory, nursery: trio.Nursery, clock: MockClock) -> None:
        self.memory = memory
        self.nursery = nursery
        self.clock = clock
        self.places = FakePlaceFile(TIERED.page_count)
        self.expected: dict[int, bytes] = {}
        self.open: dict[int, Open] = {}
        self.ratio = 100
        self.through = False
        self.budget: int | None = None
        self.start()

    def start(self) -> None:
        self.scope = trio.CancelScope()
        self.tiered = Tiered(self.memory, self.places)
        self.set_up()
        self.nursery.start_soon(self.run_worker, self.tiered, self.scope)

    def set_up(self) -> None:
        self.tiered.cache.encoder.max_compression_ratio = self.ratio
        assert self.tiered.device.place is not None
        self.tiered.device.place.writethrough = self.through
        self.tiered.device.budget.left_bytes = self.budget

    async def run_worker(self, tiered: Tiered, scope: trio.CancelScope) -> None:
        with scope:
            await tiered.writeback.run()

    async def write(self, page: int, start: int, data: bytes) -> None:
        """As a transport writes.  While it is not answered, old and new are both right.

        Of several at once the last that was asked for is what stays.
        """
        old = self.expected.get(page, ZERO_PAGE)
        new = old[:start] + data + old[start + len(data) :]
        tiered, swapfile = self.tiered, self.tiered.device.swapfile
        open_ = self.open.setdefault(page, Open([old]))
        open_.versions.append(new)
        open_.outcomes.append(None)
        number = len(open_.outcomes) - 1
        offset = page * PAGE_SIZE + start
        tried: Deferred | None = None
        try:
            if not tiered.pending_io.has_queue:
                swapfile.write(offset, memoryview(data))
                self.answered(page, number, new)
                return
        except Deferred as exc:
            tried = exc
        except StoreRefused:
            self.answered(page, number, ZERO_PAGE)
            return

        def done(error: Exception | None) -> None:
            if self.tiered is tiered:
                assert error is None or isinstance(error, StoreRefused)
                self.answered(page, number, new if error is None else ZERO_PAGE)

        tiered.pending_io.begin_write(offset, memoryview(data), done, tried)

    def answered(self, page: int, number: int, data: bytes) -> None:
        open_ = self.open[page]
        open_.versions.append(data)
        open_.outcomes[number] = data
        if None not in open_.outcomes:
            del self.open[page]
            self.expected[page] = open_.outcomes[-1] or ZERO_PAGE

    async def store(self, first: int, count: int, stride: int, kind: str, seed: int) -> None:
        for page in range(first, min(first + count * stride, TIERED.page_count), stride):
            await self.write(page, 0, KINDS[kind](page + seed))

    async def store_one(self, page: int, kind: str, seed: int) -> None:
        await self.store(page, 1, 1, kind, seed)

    async def change(self, page: int) -> None:
        if page not in self.open:
            await self.write(page, 8, b"some")

    async def discard(self, first: int, count: int, stride: int) -> None:
        for page in range(first, min(first + count * stride, TIERED.page_count), stride):
            if page not in self.open:
                self.tiered.device.swapfile.punch(page * PAGE_SIZE, PAGE_SIZE)
                self.expected[page] = ZERO_PAGE

    async def load(self, first: int, count: int, stride: int) -> None:
        for page in range(first, min(first + count * stride, TIERED.page_count), stride):
            found = await self.tiered.read(page)
            if page in self.open:
                assert found in self.open[page].versions, f"page {page}"
            else:
                assert found == self.expected.get(page, ZERO_PAGE), f"page {page}"

    async def hold(self, hold: bool) -> None:
        self.places.hold_writes = hold

    async def end_writes(self, count: int, succeed: bool) -> None:
        for write in self.places.writes[:count]:
            (write.finish if succeed else write.fail)()

    async def ratio_(self, percent: int) -> None:
        self.ratio = percent
        self.set_up()

    async def writethrough(self, switch: bool) -> None:
        self.through = switch
        self.set_up()

    async def budget_(self, limit: int | None) -> None:
        self.budget = limit
        self.set_up()

    async def clean(self, count: int) -> None:
        for _ in range(count):
            self.tiered.writeback.cleaner.step()

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
        """The old one ends where it stands; what it did not answer is old, new, or a hole."""
        self.scope.cancel()
        await wait_all_tasks_blocked()
        self.places.forget()
        self.budget = self.tiered.device.budget.left_bytes
        unanswered, self.open = self.open, {}
        self.start()
        for page, open_ in unanswered.items():
            found = await self.tiered.read(page)
            assert found in (*open_.versions, ZERO_PAGE), f"page {page}"
            self.expected[page] = found

    async def check(self) -> None:
        tiered = self.tiered
        check_invariants(tiered.cache)
        left = tiered.device.budget.left_bytes
        assert left is None or left >= 0
        if not self.open:
            assert tiered.pending_io.waiting_bytes == 0
            assert not tiered.pending_io.has_queue

    async def settle(self) -> None:
        """The file works again, and there is a budget: everything is answered, and right."""
        self.places.hold_writes = False
        self.tiered.device.budget.left_bytes = None
        for _ in range(40):
            for write in list(self.places.writes):
                write.finish()
            await wait_all_tasks_blocked()
            self.clock.jump(LONGEST_REST_S)
            await wait_all_tasks_blocked()
        assert not self.open
        await self.load(0, TIERED.page_count, 1)
        check_invariants(self.tiered.cache)


RULES = {"ratio": "ratio_", "budget": "budget_"}  # where the name is that of a value


@model_settings
@given(st.lists(steps, min_size=8, max_size=40))
def test_nothing_is_lost_whatever_happens_in_whatever_order(drawn: list[Step]) -> None:
    play(Model, drawn, RULES)
