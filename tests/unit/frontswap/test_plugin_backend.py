"""A backend of a plugin: what it does wrong is a refusal, or one page's error."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import pytest
from fuseswap_examples.raw_pages import RawPages

from fuseswap.errors import CorruptData, StoreRefused
from fuseswap.frontswap.plugin_backend import STORED_BYTES, PluginBackend
from fuseswap.plugins.health import MOST_FAULTS
from fuseswap.store.slot_word import cookie_of, foreign_word, is_corrupt, number_of
from fuseswap.units import PageNumber
from tests.support import pages
from tests.support.memory_stores import SharedMemory, fronted
from tests.support.plugged import health_of, ticking

FRAMES = 20
FIRST = PageNumber(3)


class Memory:
    """A mapping of `FRAMES`, and backends on it, one after the other."""

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, FRAMES * STORED_BYTES)

    def attach(self) -> PluginBackend:
        return PluginBackend(RawPages(self.map), 7, health_of("backend", "raw_pages"))


class Odd(RawPages):
    """Answers as a test says, once a name is in `answers`."""

    def __init__(self) -> None:
        super().__init__(mmap.mmap(-1, FRAMES * STORED_BYTES))
        self.answers: dict[str, Callable[[], object]] = {}

    def put(self, data: bytes) -> int | None:
        return self._answer("put", lambda: RawPages.put(self, data))  # type: ignore[return-value]

    def get(self, cookie: int) -> bytes:
        return self._answer("get", lambda: RawPages.get(self, cookie))  # type: ignore[return-value]

    def drop(self, cookie: int) -> None:
        self._answer("drop", lambda: RawPages.drop(self, cookie))

    def adopt(self, cookie: int) -> bool:
        return self._answer("adopt", lambda: RawPages.adopt(self, cookie))  # type: ignore[return-value]

    def _answer(self, method: str, right: Callable[[], object]) -> object:
        return self.answers.get(method, right)()


def an_odd_one() -> tuple[Odd, PluginBackend]:
    odd = Odd()
    return odd, PluginBackend(odd, 7, health_of("backend", "odd"))


def leave() -> object:
    raise SystemExit


def test_pages_come_back_in_a_later_worker_too() -> None:
    memory = Memory()
    backend = memory.attach()
    words = {PageNumber(p): backend.store(PageNumber(p), memoryview(pages.incompressible(p)), 0)
             for p in range(FRAMES)}  # fmt: skip
    assert {number_of(word) for word in words.values()} == {7}
    assert not any(is_corrupt(word) for word in words.values())
    with pytest.raises(StoreRefused):
        backend.store(PageNumber(FRAMES), pages.incompressible(99), 0)
    assert backend.stored_pages == FRAMES
    later = memory.attach()
    assert all(later.adopt(page, word) for page, word in words.items())
    assert later.finish_adoption()
    for page, word in words.items():
        assert later.load(page, word) == pages.incompressible(page)
    later.release(FIRST, words[FIRST])
    assert later.stored_pages == FRAMES - 1
    assert cookie_of(later.store(FIRST, pages.incompressible(5), 0)) == cookie_of(words[FIRST])
    assert later.health.counters.plugin_faults == 0


def test_the_example_leaves_what_compresses_to_others() -> None:
    with pytest.raises(StoreRefused, match="does not take it"):
        Memory().attach().store(FIRST, pages.compressible(1), 0)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("put", leave),
        ("put", lambda: "7"),
        ("put", lambda: -1),
        ("put", lambda: 1 << 32),
        ("put", lambda: True),
        ("get", leave),
        ("get", lambda: bytes(STORED_BYTES)),
        ("get", lambda: None),
    ],
)
def test_what_it_does_not_keep_is_refused(method: str, answer: Callable[[], object]) -> None:
    odd, backend = an_odd_one()
    odd.answers[method] = answer
    with pytest.raises(StoreRefused):
        backend.store(FIRST, pages.incompressible(1), 0)
    assert backend.stored_pages == 0
    assert backend.health.counters.plugin_faults == 1


@pytest.mark.parametrize("answer", [leave, lambda: b"", lambda: bytes(STORED_BYTES), lambda: 7])
def test_what_it_loses_is_corrupt_and_tried_twice(answer: Callable[[], object]) -> None:
    odd, backend = an_odd_one()
    word = backend.store(FIRST, pages.incompressible(1), 0)
    odd.answers["get"] = answer
    with pytest.raises(CorruptData, match=r"'odd' \(a-package 1\.2\)"):
        backend.load(FIRST, word)
    assert backend.health.counters.plugin_faults == 2


def test_the_data_of_another_page_is_no_answer() -> None:
    _, backend = an_odd_one()
    word = backend.store(FIRST, pages.incompressible(1), 0)
    with pytest.raises(CorruptData):
        backend.load(PageNumber(FIRST + 1), word)


def test_what_can_not_be_dropped_or_adopted_is_counted() -> None:
    odd, backend = an_odd_one()
    word = backend.store(FIRST, pages.incompressible(1), 0)
    odd.answers |= {"drop": leave, "adopt": leave}
    backend.release(FIRST, word)
    assert not backend.adopt(FIRST, foreign_word(7, 1))
    odd.answers["adopt"] = lambda: "yes"
    assert not backend.adopt(FIRST, foreign_word(7, 1))
    assert backend.stored_pages == 0
    assert backend.health.counters.plugin_faults == 2


def test_one_that_blocks_is_asked_no_more() -> None:
    backend = PluginBackend(Odd(), 7, health_of("backend", "odd"), clock=ticking(1.0))
    for page in range(3):
        backend.store(PageNumber(page), pages.incompressible(page), 0)
    with pytest.raises(StoreRefused, match="was set aside"):
        backend.store(FIRST, pages.incompressible(3), 0)


def test_in_a_chain_the_next_backend_has_what_it_fails_for(memory: SharedMemory) -> None:
    cache = fronted(memory.attach())
    odd, backend = an_odd_one()
    cache.frontswap.register(backend, order=-1)
    for page in range(2 * MOST_FAULTS + 2):
        odd.answers = {"put": leave} if page % 2 else {}
        cache.store(page, pages.incompressible(page))
    for page in range(2 * MOST_FAULTS + 2):
        assert cache.load(page) == pages.incompressible(page)
    assert backend.stored_pages == MOST_FAULTS  # one after each, and none once it is set aside
    assert backend.health.counters.plugin_faults == MOST_FAULTS
