"""Stores, loads, discards in steps and new workers in any order: nothing newer is dropped.

The kernel sends a request whenever it likes.  A store comes after all that was sent before it,
discards that have not ended too.  A discard comes after what was answered before it was sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.effort import scaled
from tests.support.fuse_requests import fallocate_request, read_request, write_request
from tests.support.replay import Host
from tests.support.tiered_devices import TIERED, Tiered

CLUSTERS = TIERED.page_count // 512
# Few pages, so that they meet: two of each cluster, the first one and the last.
PAGES = [cluster * 512 + at for cluster in range(CLUSTERS) for at in (0, 511)]

numbers = st.sampled_from(range(len(PAGES)))
steps = st.one_of(
    st.tuples(st.just("store"), numbers, st.integers(1, 2)),
    st.tuples(st.just("load"), numbers, st.just(0)),
    st.tuples(st.just("discard"), numbers, numbers),
    st.tuples(st.just("turns"), st.integers(1, 6), st.just(0)),
    st.tuples(st.just("worker"), st.just(0), st.just(0)),
)


NEVER = 1 << 62


@dataclass
class Change:
    """A store or a discard of one page, and when it was sent and answered."""

    unique: int
    data: bytes
    is_store: bool
    answered = NEVER

    def has_to_follow(self, other: Change) -> bool:
        """Whether this one is newer, whatever happens."""
        return self.unique > other.unique and (self.is_store or other.answered < self.unique)


class Kernel:
    """What was sent, by page, and what may be answered.  A request's number is its time."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.sent: dict[int, list[Change]] = {
            page: [Change(0, pages.ZERO, False)] for page in PAGES
        }
        self.loads: dict[int, int] = {}
        self.newest = self.answered = 0

    def _send(self, message: bytes) -> int:
        self.newest += 1
        self.host.kernel.send(self.newest, message)
        return self.newest

    def store(self, page: int, count: int) -> None:
        data = pages.filled(1000 + self.newest)
        unique = self._send(write_request(page * PAGE_SIZE, data * count))
        for one in range(page, page + count):
            if one in self.sent:
                self.sent[one].append(Change(unique, data, True))

    def discard(self, first: int, last: int) -> None:
        first, last = min(first, last), max(first, last)
        size = (last + 1 - first) * PAGE_SIZE
        unique = self._send(fallocate_request(3, first * PAGE_SIZE, size))
        for page in PAGES:
            if first <= page <= last:
                self.sent[page].append(Change(unique, pages.ZERO, False))

    def load(self, page: int) -> None:
        self.loads[self._send(read_request(page * PAGE_SIZE, PAGE_SIZE))] = page

    def may_be(self, page: int, since: int) -> set[bytes]:
        """What ``page`` may read as, where the read was sent as number ``since``."""
        done = [one for one in self.sent[page] if one.answered < since]
        return {
            one.data
            for one in self.sent[page]
            if not any(other.has_to_follow(one) for other in done)
        }

    def look(self) -> None:
        for unique, error, body in self.host.kernel.replies():
            assert not error
            self.answered += 1
            for changes in self.sent.values():
                for change in changes:
                    if change.unique == unique:
                        change.answered = self.newest
            if unique in self.loads:
                page = self.loads[unique]
                assert body in self.may_be(page, unique), f"page {page}"


async def run(host: Host, drawn: list[tuple[str, int, int]]) -> None:
    trio._core._run._r.seed(0)  # the same order each time
    kernel = Kernel(host)
    scope, worker = trio.CancelScope(), None

    async def serve(nursery: trio.Nursery) -> Tiered:
        nonlocal scope
        worker, transport = host.worker()
        worker.device.frontswap.invalidation.step_pages = 1  # any cluster is a step
        scope = trio.CancelScope()

        async def serving(scope: trio.CancelScope) -> None:
            with scope:
                await transport.serve()

        nursery.start_soon(serving, scope)
        return worker

    async with trio.open_nursery() as nursery:
        worker = await serve(nursery)
        for page in PAGES:
            kernel.store(page, 1)
        await wait_all_tasks_blocked()
        kernel.look()
        for name, one, other in drawn:
            if name == "store":
                kernel.store(PAGES[one], min(other, TIERED.page_count - PAGES[one]))
            elif name == "load":
                kernel.load(PAGES[one])
            elif name == "discard":
                kernel.discard(PAGES[one], PAGES[other])
            elif name == "turns":
                for _ in range(one):
                    await trio.lowlevel.checkpoint()
            else:
                scope.cancel()
                for _ in range(3):  # until its last task is gone
                    await trio.lowlevel.checkpoint()
                worker = await serve(nursery)
            kernel.look()
        await wait_all_tasks_blocked()
        kernel.look()
        assert kernel.answered == kernel.newest
        for page in PAGES:
            assert await worker.read(page) in kernel.may_be(page, NEVER), f"page {page}"
        nursery.cancel_scope.cancel()


@given(drawn=st.lists(steps, max_size=40))
@settings(max_examples=scaled(80), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_newer_is_dropped(drawn: list[tuple[str, int, int]]) -> None:
    host = Host()
    try:
        trio.run(run, host, drawn)
    finally:
        host.close()
