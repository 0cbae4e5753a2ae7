"""Notes of backends at work: a worker that ended inside one tells the next where."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest
from fuseswap_examples.raw_pages import RawPages

from fuseswap.codecs.call_notes import MOST_DEATHS
from fuseswap.errors import CorruptData, HostError, StoreRefused
from fuseswap.filesystem.plugged import ShelfPlugin
from fuseswap.frontswap.plugin_backend import STORED_BYTES, PluginBackend, Shelf
from fuseswap.frontswap.shelf_notes import SHELF_NOTES_BYTES, ShelfNotes
from fuseswap.store.region import Region
from fuseswap.store.slot_word import cookie_of
from fuseswap.units import PageNumber
from tests.support import pages
from tests.support.plugged import health_of

NUMBER = 3
AT = 8
BAD, GOOD = PageNumber(1), PageNumber(2)
PAGE = pages.incompressible(1)


class Ended(BaseException):
    """The worker, in the middle of a call."""


class Workers:
    """One after the other, over the same memory; a name in `fatal` ends the one that calls it."""

    def __init__(self, memory: Region) -> None:
        self.header = bytearray(AT + SHELF_NOTES_BYTES)
        self.memory = memory
        self.fatal: Callable[[str, object], bool] = lambda call, given: False
        self.begin()

    def begin(self) -> None:
        """Another worker."""
        self.notes = ShelfNotes(self.header, AT)
        self.died_in = self.notes.read_death()
        self.health = health_of("backend", "raw_pages")

    def make(self) -> PluginBackend:
        plugin = ShelfPlugin("raw_pages", self._shelf, self.health)
        return plugin.make("mine", NUMBER, self.memory, self.notes)

    def _shelf(self, memory: mmap.mmap) -> Shelf:
        self.call("make", None)
        workers, shelf = self, RawPages(memory)

        class Watched(RawPages):
            def put(self, data: bytes) -> int | None:
                workers.call("put", data)
                return shelf.put(data)

            def get(self, cookie: int) -> bytes:
                workers.call("get", cookie)
                return shelf.get(cookie)

            def adopt(self, cookie: int) -> bool:
                return shelf.adopt(cookie)

        return Watched(memory)

    def call(self, name: str, given: object) -> None:
        if self.fatal(name, given):
            self.left = bytes(self.header)
            raise Ended

    def end(self, work: Callable[[], object]) -> None:
        """``work`` never returns: the worker ends, and another begins."""
        self.left = b""
        with suppress(CorruptData, StoreRefused, HostError):  # no worker is left to say so
            work()
        assert self.left, "it returned"
        self.header[:] = self.left
        self.begin()


@pytest.fixture
def workers() -> Iterator[Workers]:
    fd = os.memfd_create("shelf")
    os.ftruncate(fd, 64 * STORED_BYTES)
    memory = Region(fd)
    yield Workers(memory)
    memory.close()
    os.close(fd)


def test_one_that_ends_three_workers_gets_no_more_pages(workers: Workers) -> None:
    workers.fatal = lambda call, given: call == "put"
    for number in range(MOST_DEATHS):
        backend = workers.make()
        assert not workers.health.is_set_aside, number
        workers.end(partial(backend.store, GOOD, PAGE, 0))
        assert workers.died_in == NUMBER
    backend = workers.make()
    assert workers.health.is_set_aside
    with pytest.raises(StoreRefused, match="was set aside"):
        backend.store(GOOD, PAGE, 0)


def test_a_page_that_ends_three_workers_is_an_error_and_no_other(workers: Workers) -> None:
    backend = workers.make()
    bad, good = backend.store(BAD, PAGE, 0), backend.store(GOOD, PAGE, 0)
    workers.fatal = lambda call, given: (call, given) == ("get", cookie_of(bad))
    for _ in range(MOST_DEATHS):
        assert backend.load(GOOD, good) == PAGE
        workers.end(partial(backend.load, BAD, bad))
        backend = workers.make()
    with pytest.raises(CorruptData, match="page 1: workers ended while"):
        backend.load(BAD, bad)
    assert backend.load(GOOD, good) == PAGE


def test_pages_that_end_workers_in_turn_are_tried_again(workers: Workers) -> None:
    backend = workers.make()
    words = {page: backend.store(page, PAGE, 0) for page in (BAD, GOOD)}
    workers.fatal = lambda call, given: call == "get"
    for page in (BAD, GOOD) * MOST_DEATHS:
        workers.end(partial(backend.load, page, words[page]))
        backend = workers.make()
    workers.fatal = lambda call, given: False
    assert [backend.load(page, word) for page, word in words.items()] == [PAGE, PAGE]


def test_one_that_ends_workers_while_it_is_made_is_missing(workers: Workers) -> None:
    workers.fatal = lambda call, given: call == "make"
    for _ in range(MOST_DEATHS):
        workers.end(workers.make)
    workers.left = b""
    with pytest.raises(HostError, match="while it was made"):
        workers.make()
    assert not workers.left, "it was not tried"


def test_a_new_backend_does_not_inherit_them(workers: Workers) -> None:
    workers.fatal = lambda call, given: call == "put"
    for _ in range(MOST_DEATHS):
        workers.end(partial(workers.make().store, GOOD, PAGE, 0))
    workers.notes.forget(NUMBER)
    workers.make()
    assert not workers.health.is_set_aside


def test_what_cannot_be_is_nothing(workers: Workers) -> None:
    workers.header[:] = b"\xff" * len(workers.header)
    workers.begin()
    assert workers.died_in == 0
    assert not workers.notes.ends_workers(NUMBER, 1)
