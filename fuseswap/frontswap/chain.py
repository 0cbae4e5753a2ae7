"""The front end: an ordered chain of backends that pages are stored in.

The contract is frontswap's (Linux Documentation/mm/frontswap.rst):

    store            the old data of the page is out of reach before anything is
                     tried; the first backend that takes the page has it alone;
                     refused by all, the page is invalid everywhere
    load             the data most recently stored, or None; it stays stored
    invalidate_page  no load finds the page after this
    invalidate_area  the same for a run of pages

Owns the slot table.  A page's word says which backend has it, and only the front end clears a
word or makes the first commit of a store.  A store is, for each backend alike, and in the order
that makes a crash at any line harmless:

    1. the old word becomes 0     the old version is out of reach
    2. `Backend.store`            what it keeps is unreachable until ...
    3. the new word is written    ... here: the commit
    4. the old word is released   what it named is freed

A partial write, whose resend after a crash needs the old bytes, is a store with ``replace``.
Step 1 is left out then, and step 3 swaps one version for the other in a single write.  A refused
store ends in a hole in both cases: never stale.

A store that a backend answers later is in `_late` until then.  The word of its page is 0, and
loads get the data that was taken.  What ends late is committed only where it is still the newest
store of the page.

Counts what happens at this border, whichever backend answers.  Knows neither bytes nor offsets
(``swapfile.py``) nor how a page is kept.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final, final

from fuseswap.counting import zeros
from fuseswap.errors import Deferred, InvalidArgument, OldInTheWay, StoreRefused, kept
from fuseswap.frontswap.adoption import Adoption
from fuseswap.frontswap.backend import Backend, Copy, Data, Patience
from fuseswap.frontswap.counters import BackendStatistics, FrontswapStatistics
from fuseswap.frontswap.invalidation import Invalidation
from fuseswap.frontswap.late_store import LateStore
from fuseswap.frontswap.links import Link, Links, load_unowned, refuse
from fuseswap.store.slot_table import CLUSTER_SHIFT, SlotTable
from fuseswap.store.slot_word import FOREIGN, KIND_MASK, MODULUS, number_of
from fuseswap.units import PageNumber

_ALL: Final = 1 << 32


@final
class Frontswap:
    """A chain of backends, asked in order, over one slot table."""

    def __init__(self, slots: SlotTable) -> None:
        self.slots = slots
        self._words, self._used = slots.words, slots.used  # hot: one look-up less
        self.links = Links()
        # By page, the data of the newest store where a backend has yet to answer: one for each
        # page of a request that waits for it.  By identity: which store it is.
        self._late: dict[PageNumber, tuple[bytes]] = {}
        # By backend, with those that are not the newest of their page any more.
        self._late_under_way: dict[str, int] = {}
        self._late_stores = 0  # of those that ended late
        self.counters = zeros(FrontswapStatistics)
        self._holes = 0
        self._gone = zeros(BackendStatistics, backend="")  # of backends that were unregistered
        self._adoption = Adoption(slots, self.links)
        self.release = self.links.release
        self.invalidation = Invalidation(
            slots, self.links, self._adoption, self._late, self.counters
        )
        self.adopting = True  # the clusters of the slot table are not all counted yet
        self._link_up()

    # -- backends --------------------------------------------------------------------

    def register(
        self,
        backend: Backend,
        *,
        order: int,
        patience: Patience | None = None,
        copy: Copy | None = None,
    ) -> None:
        """Ask ``backend`` too, before those of a higher ``order``; also while running.

        ``patience`` says which of its refusals are worth waiting for.  ``copy`` is told of whole
        pages that the first backend has stored.  Raises `InvalidArgument`; see `Links.add`.
        """
        self.links.add(backend, order, patience, copy, self.slots.page_count)
        while not self.adopting and not backend.finish_adoption():
            continue
        self._link_up()

    def set_draining(self, name: str, draining: bool) -> None:
        """Leave the backend of ``name`` out of stores, or not; raises `InvalidArgument`."""
        self.links.set_draining(name, draining)
        self._link_up()

    def unregister(self, name: str) -> None:
        """Ask the backend of ``name`` no more.

        Raises `InvalidArgument` where there is none, and while a page is in it: drain it first.
        """
        if self.adopting:
            raise InvalidArgument(f"backend '{name}': pages of a former worker are being counted")
        if late := self._late_under_way.get(name, 0):
            raise InvalidArgument(f"backend '{name}': {late} stores are under way")
        gone = self.links.remove(name)
        self._gone.backend_stores += gone.backend_stores
        self._gone.backend_loads += gone.backend_loads
        self._link_up()

    def _link_up(self) -> None:
        self._chain, self._by_number = self.links.takers, self.links.by_number
        objects = self.links.objects
        self._load_object = objects.backend.load if objects else load_unowned
        self._object_counted = objects.counted if objects else self._gone
        self._store_first = self._chain[0].backend.store if self._chain else refuse
        self._first_counted = self._chain[0].counted if self._chain else self._gone
        self._copies = tuple(link.copy for link in self._chain if link.copy)

    # -- after a crash ---------------------------------------------------------------

    def adopt_some(self, clusters: int = 4) -> bool:
        """Count some more of what a former process left, 0.2 ms a cluster; False: all is.

        The backends that had pages are to be registered before.
        """
        if self.adopting:
            self.adopting = self._adoption.step(clusters)
        return self.adopting

    def adopt_all(self) -> None:
        """The same to the end."""
        while self.adopt_some(_ALL):
            pass

    def count_area(self, first: PageNumber, count: int = 1) -> None:
        """Count the clusters of pages that are about to be changed, if that was not done."""
        if self.adopting:
            self._adoption.count_area(first, count)

    @property
    def uncounted_pages(self) -> int:
        """At most so many pages are yet to be counted."""
        return self.slots.uncounted << CLUSTER_SHIFT if self.adopting else 0

    # -- store -----------------------------------------------------------------------

    def store(self, page: PageNumber, data: Data, replace: bool = False) -> None:
        """Store 4096 bytes in the first backend that takes them.

        Raises `StoreRefused` and leaves a hole; or `Deferred`.  One that is ``taken`` goes on
        by itself.  Another has changed nothing, or dropped the old version for its room.
        """
        words, used, cluster = self._words, self._used, page >> CLUSTER_SHIFT
        if self.adopting:
            self._adoption.count(cluster)
        old = words[page] if used[cluster] else 0
        if old:
            if old % MODULUS:
                self.slots.recount(cluster)
            if not replace:
                words[page] = 0  # crash point: store-clear
        elif not used[cluster]:
            self._allocate(page)  # crash point: store-allocate
        try:
            word = self._store_first(page, data, old, replace)
        except Exception as exc:
            self._store_further(page, data, old, replace, exc)
        else:
            words[page] = word  # crash point: store-commit
            if not old:
                used[cluster] += 1  # crash point: store-count
                self.slots.new_words += 1
            else:
                self.release(page, old)  # crash point: store-release
            self._first_counted.backend_stores += 1
            if self._late:
                self._late.pop(page, None)
            if not replace:  # else a discard that starts over after each wait would never end
                for copy in self._copies:
                    copy(page, data)

    def _allocate(self, page: PageNumber) -> None:
        """Have memory for the word of ``page``; it is waited for as a backend waits."""
        try:
            self.slots.allocate(page)
        except StoreRefused as exc:
            refusal = kept(exc)
            waits = (link.wait_for(page, refusal) for link in self._chain)
            wait = next(filter(None, waits), None)
            del refusal, waits
            if wait is None:
                self._late.pop(page, None)
                self.counters.failed_stores += 1
                raise
        else:
            return
        try:
            raise wait
        finally:
            del wait  # the frame of a traceback would hold it

    def _store_further(
        self, page: PageNumber, data: Data, old: int, replace: bool, refusal: Exception
    ) -> None:
        """The first backend raised ``refusal``: wait, ask the others, or leave a hole."""
        outcome: int | Exception = kept(refusal)
        del refusal
        wait: Deferred | None = None
        is_counted = bool(old)  # in its cluster
        for place, link in enumerate(self._chain):
            if place:
                data = bytes(data)  # once for all: a late store keeps them
                outcome = link.attempt(page, data, old, replace)
            if isinstance(outcome, OldInTheWay) and old and not replace:
                self.release(page, old)
                old = 0
                outcome = link.attempt(page, data, old, replace)
            wait = link.wait_for(page, outcome)
            if isinstance(outcome, int):
                self._finish(page, outcome, old, is_counted=is_counted)
                link.counted.backend_stores += 1
                return
            if wait is None and isinstance(outcome, Deferred) and not replace:
                wait = self._take_later(link, page, bytes(data), outcome)
            if wait is not None or not isinstance(outcome, StoreRefused | Deferred):
                break
            link.counted.backend_refusals += 1
            if isinstance(outcome, Deferred):
                outcome = StoreRefused(f"a part of page {page} can't be taken later")
        if wait is not None and not wait.taken and old:
            self._words[page] = old
        else:
            self._leave_hole(page, old, is_counted=is_counted)
            if wait is None:
                self._late.pop(page, None)
                self.counters.failed_stores += isinstance(outcome, StoreRefused)
        error = wait or outcome
        assert isinstance(error, Exception)
        try:
            raise error
        finally:
            del wait, outcome, error  # the frame of a traceback would hold it

    def _finish(self, page: PageNumber, word: int, old: int, *, is_counted: bool) -> None:
        """The commit of a store, and what comes after it."""
        self._words[page] = word  # crash point: further-commit
        if not is_counted:
            self._used[page >> CLUSTER_SHIFT] += 1
            self.slots.new_words += 1
        if old:
            self.release(page, old)
        self._late.pop(page, None)

    def _leave_hole(self, page: PageNumber, old: int, *, is_counted: bool) -> None:
        """No word for ``page``, whatever was there; ``old``: its word where not released yet."""
        if is_counted:
            self._words[page] = 0  # crash point: refuse-clear
            self.slots.drop_slot(page)
        else:
            self.slots.release_unused(page)
        if old:
            self.release(page, old)  # crash point: refuse-release

    # -- stores that end later -------------------------------------------------------

    def _take_later(self, link: Link, page: PageNumber, data: bytes, inner: Deferred) -> LateStore:
        """``inner`` goes on with the store; loads get ``data`` until it has ended."""
        store = self._late[page] = (data,)
        self.slots.hold(page)
        name = link.backend.name
        self._late_under_way[name] = self._late_under_way.get(name, 0) + 1
        return LateStore(kept(inner).begin, partial(self._end_later, link, page, store))

    def _end_later(
        self, link: Link, page: PageNumber, store: tuple[bytes], outcome: int | Exception
    ) -> Exception | None:
        """A late store has a word, or failed.  Only the newest of a page is committed."""
        self._late_under_way[link.backend.name] -= 1
        is_newest = self._late.get(page) is store
        if is_newest:
            del self._late[page]
        if not isinstance(outcome, Exception):
            if is_newest:
                self._commit(page, outcome)
            else:
                link.backend.release(page, outcome)
        self.slots.let_go(page)
        failed = isinstance(outcome, Exception)
        link.counted.backend_stores += not failed
        self._late_stores += not failed
        link.counted.backend_refusals += failed
        self.counters.failed_stores += failed
        if not isinstance(outcome, Exception):
            return None
        return outcome if isinstance(outcome, StoreRefused) else StoreRefused(str(outcome))

    def _commit(self, page: PageNumber, word: int) -> None:
        """The commit of a late store; its cluster was held."""
        self.count_area(page)
        old = self.slots.get(page)
        self.slots.commit(page, word)  # crash point: late-commit
        if old:
            self.release(page, old)

    def is_late(self, page: PageNumber) -> bool:
        """Whether the newest store of ``page`` has yet to end."""
        return page in self._late

    # -- load and invalidate ---------------------------------------------------------

    def load(self, page: PageNumber) -> bytes | None:
        """4096 bytes of ``page``, None for a hole; raises `CorruptData` or `Deferred`."""
        word = self._words[page] if self._used[page >> CLUSTER_SHIFT] else 0
        if word & KIND_MASK != FOREIGN or word % MODULUS:
            if not word:
                return self._load_hole(page)
            data = self._load_object(page, word)
            self._object_counted.backend_loads += 1
            return data
        link = self._by_number.get(number_of(word))
        if link is None:
            return self._load_object(page, word)  # says what is wrong with it
        data = link.backend.load(page, word)
        link.counted.backend_loads += 1
        return data

    def load_foreign(self, page: PageNumber, word: int) -> bytes:
        """A page of another backend than that of objects, uncounted; as `load`."""
        link = self._by_number.get(number_of(word))
        return link.backend.load(page, word) if link else self._load_object(page, word)

    def _load_hole(self, page: PageNumber) -> bytes | None:
        """None, or what was taken and has no word yet."""
        self._holes += 1
        late = self._late.get(page)
        return late[0] if late else None

    def invalidate_page(self, page: PageNumber) -> None:
        """Forget ``page``."""
        self.invalidation.page(page)

    def invalidate_area(self, first: PageNumber, count: int) -> None:
        """Forget ``count`` pages from ``first``, in one go."""
        self.invalidation.area(first, count)

    # -- looking at it ---------------------------------------------------------------

    @property
    def operations(self) -> int:
        """All that was asked so far: it changes with each page that is loaded or stored."""
        now = self.statistics()
        return now.loads + now.succ_stores + now.failed_stores + now.invalidates

    def statistics(self) -> FrontswapStatistics:
        """A snapshot of the counters."""
        counted = [link.counted for link in self.links.chain] + [self._gone]
        stores = sum(one.backend_stores for one in counted)
        return replace(
            self.counters,
            duplicate_entry=stores - self._late_stores - self.slots.new_words,
            loads=self._holes + sum(one.backend_loads for one in counted),
            succ_stores=stores,
        )

    def by_backend(self) -> list[BackendStatistics]:
        """The same, in the order of the chain."""
        return [
            replace(link.counted, curr_pages=link.backend.stored_pages) for link in self.links.chain
        ]
