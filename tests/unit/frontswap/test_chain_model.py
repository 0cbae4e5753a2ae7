"""The front end against a dict: chains of one to four backends, whatever they answer, and when.

The first is the compressed cache.  Of the others one says "later" to everything, one too, and
fails then, and one is registered in the middle.  A raw backend of few slots comes before them all
or behind, and any is drained, page by page, while the others go on.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fuseswap.errors import Deferred, StoreRefused
from fuseswap.frontswap.moves import Move, Moves
from fuseswap.frontswap.raw_memory import RawMemory
from fuseswap.store.memory_reserve import AtOnce
from fuseswap.units import FIRST_PAGE, PageNumber
from tests.support import pages
from tests.support.effort import scaled
from tests.support.fake_backend import FakeBackend
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import FrontedCache, SharedMemory, fronted

pytestmark = pytest.mark.slow

RAW_SLOTS = 2
RAW_NUMBER = 9

page_numbers = st.integers(0, 2) | st.integers(511, 512)
contents = st.builds(
    lambda make, seed: make(seed),
    st.sampled_from([pages.compressible, pages.incompressible, pages.filled]),
    st.integers(1, 4),
)


class ChainMachine(RuleBasedStateMachine):
    """``model`` has what the newest store of each page brought, or nothing once that failed."""

    length = 1

    def __init__(self) -> None:
        super().__init__()
        self.memory = SharedMemory()
        self.model: dict[int, bytes] = {}
        self.memory.add_raw("raw", RAW_SLOTS)
        self.has_raw = False
        self.fakes = [FakeBackend(f"fake{number}", number * 85) for number in range(4)]
        self.refuses = False

    @initialize()
    def first_worker(self) -> None:
        self.fakes[0].says_later = self.fakes[1].says_later = True
        self.start(self.length - 1)
        self.store.frontswap.adopt_all()

    def start(self, fakes: int) -> None:
        self.store: FrontedCache = fronted(self.memory.attach(), lazy=True)
        for order, fake in enumerate(self.fakes[:fakes], 1):
            self.store.frontswap.register(fake, order=order)
        if self.has_raw:
            self.register_raw()
        self.count = fakes
        for fake in self.fakes:
            fake.pieces_left = 2
        self.refuse(self.refuses)

    @rule()
    def change_its_mind(self) -> None:
        """The compressed cache refuses all but same-filled pages, or nothing."""
        self.refuse(not self.refuses)

    def refuse(self, refuses: bool) -> None:
        self.refuses = refuses
        self.store.encoder.non_same_filled_pages_enabled = not refuses

    @rule(number=st.integers(0, 3), refuses=st.booleans())
    def refuse_further(self, number: int, refuses: bool) -> None:
        self.fakes[number].error = StoreRefused("full") if refuses else None

    @rule(page=page_numbers, data=contents, replace=st.booleans())
    def write(self, page: int, data: bytes, replace: bool) -> None:
        try:
            self.store.store(page, data, replace)
        except StoreRefused:
            self.model.pop(page, None)
        except Deferred as exc:
            self.taken(exc, replace)
            self.model[page] = data
        else:
            self.model[page] = data

    def taken(self, exc: Deferred, replace: bool) -> None:
        assert exc.taken
        assert not replace
        exc.begin(lambda answer: None)

    @rule(page=page_numbers, data=contents)
    def write_late_and_again(self, page: int, data: bytes) -> None:
        before = self.refuses
        self.refuse(True)
        self.write(page, data, replace=False)
        self.refuse(False)
        self.write(page, pages.compressible(5), replace=False)
        self.refuse(before)

    @rule(page=page_numbers)
    def discard(self, page: int) -> None:
        self.store.invalidate_page(page)
        self.model.pop(page, None)

    @rule(page=page_numbers, count=st.integers(0, 3) | st.just(600))
    def discard_area(self, page: int, count: int) -> None:
        self.store.invalidate_area(page, count)
        for one in [one for one in self.model if page <= one < page + count]:
            del self.model[one]

    @rule(chance=st.randoms(use_true_random=False))
    def end_a_late_store(self, chance: object) -> None:
        """The second of the fakes fails."""
        waiting = [(one, fake) for fake in self.fakes for one in fake.waiting]
        if not waiting:
            return
        late, fake = chance.choice(waiting)  # type: ignore[attr-defined]
        is_newest = self.is_newest(late.page, late.data)
        if fake is self.fakes[1]:
            late.end(OSError("broken"))
            if is_newest:
                self.model.pop(late.page, None)
        else:
            late.end()

    def is_newest(self, page: int, data: bytes) -> bool:
        late = self.store.frontswap._late.get(PageNumber(page))
        return late is not None and late[0] is data

    @precondition(lambda self: self.length > 1 and self.count < 4)
    @rule()
    def another_backend(self) -> None:
        """It comes while pages are stored, between the others or behind them."""
        self.store.frontswap.register(self.fakes[self.count], order=self.count + 1)
        self.count += 1

    def register_raw(self) -> None:
        memory = self.memory.memories()["raw"]
        self.raw = RawMemory("raw", RAW_NUMBER, memory, AtOnce(), self.store.cache.reader.corrupt)
        self.store.frontswap.register(self.raw, order=self.raw_order)

    @precondition(lambda self: not self.has_raw)
    @rule(first=st.booleans())
    def raw_memory(self, first: bool) -> None:
        self.raw_order = -1 if first else 99
        self.has_raw = True
        self.register_raw()

    @precondition(lambda self: self.has_raw and not self.store.frontswap.adopting)
    @rule()
    def raw_memory_goes(self) -> None:
        """Once the others have its pages; one that nobody takes keeps it."""
        frontswap, moves = self.store.frontswap, Moves(self.store.frontswap)
        frontswap.set_draining("raw", True)
        pages, _ = moves.pages_of(RAW_NUMBER, FIRST_PAGE)
        for page in pages:
            self.move(moves, "raw", page)
        if self.raw.stored_pages:
            frontswap.set_draining("raw", False)
        else:
            frontswap.unregister("raw")
            self.has_raw = False

    def move(self, moves: Moves, source: str, page: PageNumber) -> None:
        links = self.store.frontswap.links
        try:
            move = moves.load(links.find(source), page)
            if move and (wait := moves.store(move, list(links.takers))):
                wait.begin(lambda answer: None)  # a fake has it, and ends when it likes
                if source == "raw":  # whose slots are used again: it is drained until the end
                    self.end_the_last(move)
        except StoreRefused:
            return

    def end_the_last(self, move: Move) -> None:
        for fake in self.fakes:
            if fake.waiting and fake.waiting[-1].data is move.data:
                fake.waiting[-1].end(OSError("broken") if fake is self.fakes[1] else None)

    @precondition(lambda self: self.count and not self.store.frontswap.adopting)
    @rule(number=st.integers(0, 3), on=st.booleans(), page=page_numbers)
    def drain(self, number: int, on: bool, page: int) -> None:
        """A fake gives a page away; for as long as it is drained it gets none."""
        if number < self.count:
            self.store.frontswap.set_draining(f"fake{number}", on)
            if on:
                self.move(Moves(self.store.frontswap), f"fake{number}", PageNumber(page))

    @rule(lazily=st.booleans())
    def next_worker(self, lazily: bool) -> None:
        """Late stores were not answered: whoever sends them again has the page."""
        for page in list(self.store.frontswap._late):
            self.model.pop(page, None)
        for fake in self.fakes:
            fake.waiting.clear()
        self.start(self.count)
        if not lazily:
            self.store.frontswap.adopt_all()

    @rule()
    def count_some(self) -> None:
        self.store.adopt_some(1)

    @invariant()
    def each_page_is_what_was_stored_last(self) -> None:
        look = {*range(3), 511, 512, *self.model}
        for page in look:
            assert self.store.load(page) == self.model.get(page), f"page {page}"

    @invariant()
    def each_page_is_in_one_backend_and_none_is_forgotten(self) -> None:
        if self.store.frontswap.adopting:
            return
        late = len(self.store.frontswap._late)
        held = sum(fake.stored_pages for fake in self.fakes) + self.store.cache.stored_pages
        held += self.raw.stored_pages if self.has_raw else 0
        assert held == self.store.slots.stored_pages == len(self.model) - late
        check_invariants(self.store)

    def teardown(self) -> None:
        self.memory.close()


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_chain_of(length: int) -> None:
    machine: type[ChainMachine] = type(f"Chain{length}", (ChainMachine,), {"length": length})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=scaled(100), stateful_step_count=50, deadline=None),
    )
