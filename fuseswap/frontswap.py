"""The front end: an ordered chain of backends that pages are stored in.

The contract is frontswap's (Linux Documentation/mm/frontswap.rst):

    store            the old data of the page is out of reach before anything is
                     tried; the first backend that takes the page has it alone;
                     refused by all, the page is invalid everywhere
    load             the data most recently stored, or None; it stays stored
    invalidate_page  no load finds the page after this
    invalidate_area  the same for a run of pages

Counts what happens at this border, whichever backend answers.  Knows neither
bytes nor offsets (``swapfile.py``) nor how a page is kept (``cache/``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fuseswap.counting import counter, zeros
from fuseswap.errors import Deferred, InvalidArgument, StoreRefused, kept


class Backend(Protocol):
    """Where pages can be kept.  Synchronous: nothing here may wait."""

    name: str

    def store(self, page: int, data: bytes | memoryview, replace: bool = False) -> None:
        """Keep 4096 bytes; on `StoreRefused` the page is not in this backend any more."""

    def load(self, page: int) -> bytes | None:
        """4096 bytes, None where not stored; raises `CorruptData`."""

    def invalidate_page(self, page: int) -> bool:
        """Forget the page; whether it was there."""

    def invalidate_area(self, first: int, count: int) -> int:
        """Forget a run; how many pages were there."""


@dataclass(slots=True)
class FrontswapStatistics:
    """Counters as Linux's frontswap kept them in debugfs."""

    loads: int = counter(
        "Pages asked for and found in memory, holes among them.", like="frontswap", after="segments"
    )
    succ_stores: int = counter("Pages taken.", like="frontswap")
    failed_stores: int = counter("Pages no backend took; the kernel kept them.", like="frontswap")
    invalidates: int = counter("Stored pages the kernel freed.", like="frontswap")


@dataclass(slots=True)
class BackendStatistics:
    """The part of one backend in them."""

    backend: str
    backend_stores: int = counter("Pages each backend took.", labels=("backend",))
    backend_refusals: int = counter(
        "Pages each backend refused: the next one was asked, or the kernel kept them.",
        labels=("backend",),
    )
    backend_loads: int = counter(
        "Loads each backend answered at once; those of holes, and tier_loads, are of none.",
        labels=("backend",),
    )


class Frontswap:
    """A chain of backends, asked in order."""

    def __init__(
        self,
        backends: Sequence[Backend],
        write_through: Callable[[int, bytes | memoryview], None] | None = None,
    ) -> None:
        """``write_through`` is called with each page the first backend has stored.

        It may raise `Deferred`.
        """
        if not backends:
            raise InvalidArgument("frontswap needs at least one backend")
        self.backends = tuple(backends)
        self._first = self.backends[0]
        self._load_first = self._first.load
        self._store_first = self._first.store
        self._rest = self.backends[1:]
        self._write_through = write_through
        self.counters = zeros(FrontswapStatistics)
        # Of the first one only what is rare: the rest of it is what the others did not do.
        self._by_backend = [zeros(BackendStatistics, backend=one.name) for one in self.backends]
        self._not_in_first = 0

    def store(self, page: int, data: bytes | memoryview, replace: bool = False) -> None:
        """Store 4096 bytes in the first backend that takes them; raises `StoreRefused`."""
        try:
            self._store_first(page, data, replace)
        except StoreRefused:
            self._by_backend[0].backend_refusals += 1
            self._store_further(page, data, replace)
            self.counters.succ_stores += 1
            return
        except Deferred:
            raise
        except Exception:
            for backend in self._rest:
                backend.invalidate_page(page)
            raise
        self.counters.succ_stores += 1
        if self._rest:
            self._stored_first(page, data, replace)

    def _stored_first(self, page: int, data: bytes | memoryview, replace: bool) -> None:
        """The first backend has the page: the others forget it, or get a copy.

        No copy of a part that was changed: a discard starts over after each wait, for ever then.
        """
        for backend in self._rest:
            backend.invalidate_page(page)
        if self._write_through is not None and not replace:
            self._write_through(page, data)

    def note_late(self, backend: Backend, stored: bool) -> None:
        """A store that raised `Deferred` because ``backend`` takes it later has ended."""
        self.counters.succ_stores += stored
        self.counters.failed_stores += not stored
        counted = self._by_backend[self.backends.index(backend)]
        counted.backend_stores += stored
        counted.backend_refusals += not stored

    def _store_further(self, page: int, data: bytes | memoryview, replace: bool) -> None:
        """The first backend refused (and holds nothing): ask the others in order.

        One that raises `Deferred` takes the page later, and says so to `note_late`.  Those behind
        it forget the page now: were the late store to fail, they would bring an older version back.
        """
        taken = False
        deferred: Deferred | None = None
        for backend, counted in zip(self._rest, self._by_backend[1:], strict=True):
            if taken or deferred:
                backend.invalidate_page(page)
                continue
            try:
                backend.store(page, data, replace)
            except StoreRefused:
                counted.backend_refusals += 1
                continue
            except Deferred as exc:
                deferred = kept(exc)
                continue
            counted.backend_stores += 1
            taken = True
        if deferred:
            try:
                raise deferred
            finally:
                del deferred  # the frame of a traceback would hold it
        if not taken:
            self.counters.failed_stores += 1
            raise StoreRefused(f"no backend took page {page}")

    def load(self, page: int) -> bytes | None:
        """4096 bytes of ``page``, None for a hole; raises `CorruptData`."""
        data = self._load_first(page)
        self.counters.loads += 1
        if data is None:
            self._not_in_first += 1
            for backend, counted in zip(self._rest, self._by_backend[1:], strict=True):
                data = backend.load(page)
                if data is not None:
                    counted.backend_loads += 1
                    break
        return data

    def invalidate_page(self, page: int) -> None:
        """Forget ``page`` everywhere."""
        for backend in self.backends:
            self.counters.invalidates += backend.invalidate_page(page)

    def invalidate_area(self, first: int, count: int) -> None:
        """Forget ``count`` pages from ``first`` everywhere."""
        for backend in self.backends:
            self.counters.invalidates += backend.invalidate_area(first, count)

    @property
    def operations(self) -> int:
        """All that was asked so far: it changes with each page that is loaded or stored."""
        now = self.counters
        return now.loads + now.succ_stores + now.failed_stores + now.invalidates

    def statistics(self) -> FrontswapStatistics:
        """A snapshot of the counters."""
        return replace(self.counters)

    def by_backend(self) -> list[BackendStatistics]:
        """The same, in the order of the chain."""
        first, *others = self._by_backend
        return [
            replace(
                first,
                backend_stores=self.counters.succ_stores - sum(o.backend_stores for o in others),
                backend_loads=self.counters.loads - self._not_in_first,
            ),
            *map(replace, others),
        ]
