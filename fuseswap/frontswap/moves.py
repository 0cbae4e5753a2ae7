"""Pages that change their backend: nothing of them is new, and the kernel does not ask for it.

    bring back   a page that was just loaded from a tier, into the first backend that takes it
    drain        a backend's pages, one by one, to the others (``filesystem/draining.py``)

A move is a store whose old word stays until the commit.  So a crash at any line leaves the page
where it was, or where it is to be:

    1. the page is loaded         `load`; may take a while
    2. another backend keeps it   `store`; may take a while
    3. look again: is the word the one that was loaded?
    4. the new word is written    the commit
    5. the old word is released

A backend that is drained is asked for no store meanwhile.  So a word of it that is there at step 3
was there all the time: no newer version can have it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from fuseswap.errors import RETRY, Deferred, StoreRefused
from fuseswap.frontswap.chain import Frontswap
from fuseswap.frontswap.links import Link
from fuseswap.store.slot_table import CLUSTER_SHIFT
from fuseswap.store.slot_word import is_corrupt, is_foreign, is_same_object, number_of, spoiled
from fuseswap.units import PageNumber, numbered

log = logging.getLogger(__name__)

CLUSTERS_AT_ONCE = 16  # looked through for pages of one backend, 0.3 ms


class Move(NamedTuple):
    """4096 bytes of ``page`` as its ``word`` names them."""

    page: PageNumber
    word: int
    data: bytes


class Moves:
    """Moves pages between the backends of ``frontswap``."""

    def __init__(self, frontswap: Frontswap) -> None:
        self._frontswap = frontswap
        self._slots = frontswap.slots

    def bring_back(self, page: PageNumber, data: bytes) -> None:
        """Have ``data``, which was just loaded, in the first backend that takes it at once.

        Raises `StoreRefused` or `Deferred`, and has changed nothing then.
        """
        frontswap = self._frontswap
        frontswap.count_area(page)
        old = self._slots.get(page)
        error: Exception = StoreRefused("no backend is registered")
        outcome: int | Exception = 0
        wait: Deferred | None = None
        for link in frontswap.links.takers:
            outcome = link.attempt(page, data, old, True)
            if isinstance(outcome, int):
                self._slots.words[page] = outcome  # crash point: back-commit
                frontswap.release(page, old)
                return
            wait = link.wait_for(page, outcome)
            if isinstance(outcome, Deferred):
                outcome = StoreRefused(f"a part of page {page} can't be taken later")
            error = wait or outcome
            if wait is not None or not isinstance(outcome, StoreRefused):
                break
        try:
            raise error
        finally:
            del error, outcome, wait  # the frame of a traceback would hold it

    # -- one backend's pages -----------------------------------------------------------

    def pages_of(self, number: int, first: PageNumber) -> tuple[list[PageNumber], PageNumber]:
        """Pages from ``first`` on that the backend of ``number`` has, and where to go on.

        A bounded piece; all were seen where the second is `page_count`.
        """
        slots = self._slots
        cluster = first >> CLUSTER_SHIFT
        end = min(cluster + CLUSTERS_AT_ONCE << CLUSTER_SHIFT, slots.page_count)
        found = [
            page
            for start, words in slots.clusters(first, end)
            for page, word in numbered(words, start)
            if self._has(number, word) and page >= first
        ]
        return found, PageNumber(end)

    def _has(self, number: int, word: int) -> bool:
        return is_foreign(word) and not is_corrupt(word) and number_of(word) == number

    def load(self, source: Link, page: PageNumber) -> Move | None:
        """What ``source`` has of ``page``; None where it has it no more.

        Raises `CorruptData`, or a `Deferred` that answers with the bytes, or `RETRY`.
        """
        number, word = source.backend.number, self._slots.get(page)
        if number is None or not self._has(number, word):
            return None
        return Move(page, word, source.backend.load(page, word))

    def give_up(self, source: Link, page: PageNumber) -> None:
        """The bytes of ``page`` are corrupt: loads of it say so until it is stored again."""
        number, word = source.backend.number, self._slots.get(page)
        if number is not None and self._has(number, word):
            log.error("page %d of backend '%s' is lost: corrupt", page, source.backend.name)
            self._slots.words[page] = spoiled(word)
            source.backend.release(page, word)

    def store(self, move: Move, targets: list[Link]) -> Deferred | None:
        """Have the first of ``targets`` that takes it keep the page; None once it is done.

        Or a `Deferred`, which answers `RETRY` (load it again), or an error: it stays where it
        is.  Raises `StoreRefused` where none does.
        """
        refusal = StoreRefused(f"no other backend takes page {move.page}")
        for link in targets:
            outcome = link.attempt(move.page, move.data, 0, False)
            if isinstance(outcome, int):
                self._commit(move, link, outcome)
                return None
            if wait := link.wait_for(move.page, outcome):
                return wait
            if isinstance(outcome, Deferred):
                return LateMove(self._commit, move, link, outcome)
            if not isinstance(outcome, StoreRefused):
                refusal = StoreRefused(f"backend '{link.backend.name}' fails: {outcome!r}")
        try:
            raise refusal
        finally:
            del refusal

    def _commit(self, move: Move, target: Link, word: int) -> None:
        """``target`` has the page, by ``word``; if it is still that version it counts."""
        page = move.page
        if not is_same_object(self._slots.get(page), move.word):
            target.backend.release(page, word)
            return
        self._slots.words[page] = word  # crash point: move-commit
        self._frontswap.release(page, move.word)  # crash point: move-release


class LateMove(Deferred):
    """A backend that takes a page later; it answers `RETRY`, since the page may be a newer one."""

    def __init__(
        self, commit: Callable[[Move, Link, int], None], move: Move, target: Link, inner: Deferred
    ) -> None:
        super().__init__("a backend takes the page later")
        self._commit = commit
        self._move = move
        self._target = target
        self._inner = inner

    def begin(self, answer: Callable[[Any], None]) -> None:
        """See `Deferred`."""
        commit, move, target = self._commit, self._move, self._target

        def ended(outcome: int | Exception) -> None:
            if isinstance(outcome, int):
                commit(move, target, outcome)
                answer(RETRY)
            else:
                answer(outcome)

        self._inner.begin(ended)
