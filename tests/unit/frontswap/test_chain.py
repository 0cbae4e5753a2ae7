"""The front end: frontswap's contract over a chain of backends, and its counters."""

from __future__ import annotations

import logging

import pytest

from fuseswap.errors import CorruptData, InvalidArgument, OldInTheWay, StoreRefused
from fuseswap.frontswap.chain import Frontswap
from fuseswap.frontswap.moves import Moves
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.slot_word import foreign_word, is_corrupt
from fuseswap.units import PageNumber, page_range
from tests.support.chains import holders, refuse, store_later
from tests.support.fake_backend import CORRUPT, FakeBackend, chain_of
from tests.support.memory_stores import SharedMemory

Chain = tuple[Frontswap, list[FakeBackend]]


@pytest.fixture
def chain(memory: SharedMemory) -> Chain:
    return chain_of(3, memory)


def numbers(frontswap: Frontswap) -> tuple[int, int, int, int]:
    now = frontswap.statistics()
    return now.loads, now.succ_stores, now.failed_stores, now.invalidates


# -- who has a page ----------------------------------------------------------------------


def test_an_empty_chain_takes_nothing(memory: SharedMemory) -> None:
    frontswap, _ = chain_of(0, memory)
    with pytest.raises(StoreRefused):
        frontswap.store(PageNumber(5), b"new")
    assert frontswap.load(PageNumber(5)) is None


@pytest.mark.parametrize("refusing", [0, 1, 2])
@pytest.mark.parametrize("old_holder", [None, 0, 1, 2])
def test_the_first_backend_that_takes_the_page_has_it_alone(
    chain: Chain, refusing: int, old_holder: int | None
) -> None:
    frontswap, backends = chain
    if old_holder is not None:
        refuse(*backends[:old_holder])
        frontswap.store(PageNumber(5), b"old")
    for backend in backends:
        backend.error = None
        backend.stores.clear()
    refuse(*backends[:refusing])
    frontswap.store(PageNumber(5), b"new")
    assert holders(backends, 5) == [refusing]
    assert frontswap.load(PageNumber(5)) == b"new"
    assert [len(backend.stores) for backend in backends] == [1] * (refusing + 1) + [0] * (
        2 - refusing
    )
    assert frontswap.slots.stored_pages == 1


@pytest.mark.parametrize("replace", [False, True])
def test_refused_by_all_the_page_is_nowhere(chain: Chain, replace: bool) -> None:
    frontswap, backends = chain
    frontswap.store(PageNumber(5), b"old")
    refuse(*backends)
    with pytest.raises(StoreRefused):
        frontswap.store(PageNumber(5), b"new", replace)
    assert holders(backends, 5) == []
    assert frontswap.load(PageNumber(5)) is None
    assert numbers(frontswap) == (1, 1, 1, 0)
    assert frontswap.slots.stored_pages == 0


def test_a_backend_that_fails_leaves_no_old_version_behind_it(chain: Chain) -> None:
    frontswap, backends = chain
    frontswap.store(PageNumber(5), b"old")
    backends[0].error = OSError("broken")
    with pytest.raises(OSError, match="broken"):
        frontswap.store(PageNumber(5), b"new")
    assert frontswap.load(PageNumber(5)) is None
    assert holders(backends, 5) == []


@pytest.mark.parametrize("replace", [False, True])
def test_the_old_word_is_out_of_reach_before_anything_is_tried(chain: Chain, replace: bool) -> None:
    """With ``replace`` it stays until the commit; what it names is there in both cases."""
    frontswap, backends = chain
    frontswap.store(PageNumber(5), b"old")
    was = frontswap.slots.get(PageNumber(5))
    seen = []

    def store(page: int, data: bytes | memoryview, old: int, replace: bool = False) -> int:
        seen.append((frontswap.slots.words[5], old, len(backends[0].kept), replace))
        return backends[0].keep(page, bytes(data))

    backends[0].store = store  # type: ignore[method-assign]
    frontswap._link_up()
    frontswap.store(PageNumber(5), b"new", replace)
    assert seen == [(was if replace else 0, was, 1, replace)]
    assert frontswap.load(PageNumber(5)) == b"new"
    assert len(backends[0].kept) == 1


def test_an_overwrite_that_finds_no_room_is_tried_without_its_old_version(chain: Chain) -> None:
    """But not a part of a page, whose old bytes are needed."""
    frontswap, backends = chain
    first = backends[0]

    def store(page: int, data: bytes | memoryview, old: int, replace: bool = False) -> int:
        if first.kept:
            raise OldInTheWay("full")
        return first.keep(page, bytes(data))

    frontswap.store(PageNumber(5), b"old")
    first.store = store  # type: ignore[method-assign]
    frontswap._link_up()
    frontswap.store(PageNumber(5), b"new")
    assert (frontswap.load(PageNumber(5)), holders(backends, 5)) == (b"new", [0])
    frontswap.store(PageNumber(5), b"part", replace=True)
    assert (frontswap.load(PageNumber(5)), holders(backends, 5)) == (b"part", [1])
    assert frontswap.slots.stored_pages == 1


# -- backends come and go ------------------------------------------------------------------


def test_a_backend_may_come_while_pages_are_stored(chain: Chain) -> None:
    frontswap, backends = chain
    refuse(backends[0])
    for page in page_range(0, 5):
        frontswap.store(page, b"before")
    late = FakeBackend("late", 77)
    with pytest.raises(InvalidArgument, match="order"):
        frontswap.register(late, order=1)
    frontswap.register(late, order=-1)
    assert late.page_count == frontswap.slots.page_count
    frontswap.store(PageNumber(3), b"after")
    assert [frontswap.load(PageNumber(page)) for page in (2, 3)] == [b"before", b"after"]
    assert holders([late], 3) == [0]
    assert holders(backends, 3) == []


@pytest.mark.parametrize(
    ("name", "number", "order"), [("backend1", 9, 9), ("x", 0, 9), ("x", None, 9), ("x", 256, 9)]
)
def test_names_numbers_and_orders_are_taken_once(
    chain: Chain, name: str, number: int | None, order: int
) -> None:
    frontswap, backends = chain
    with pytest.raises(InvalidArgument):
        frontswap.register(FakeBackend(name, number), order=order)
    assert frontswap.links.backends == backends


def test_a_backend_with_pages_does_not_go(chain: Chain) -> None:
    frontswap, backends = chain
    refuse(backends[0])
    frontswap.store(PageNumber(5), b"x")
    with pytest.raises(InvalidArgument, match="1 pages: drain it"):
        frontswap.unregister("backend1")
    assert frontswap.load(PageNumber(5)) == b"x"
    frontswap.invalidate_page(PageNumber(5))
    frontswap.unregister("backend1")
    assert frontswap.links.backends == [backends[0], backends[2]]
    frontswap.store(PageNumber(6), b"y")
    assert holders(backends, 6) == [2]
    assert numbers(frontswap)[:2] == (1, 2), "what it did is still counted"
    with pytest.raises(InvalidArgument, match="no backend"):
        frontswap.unregister("backend1")


def test_a_backend_that_has_yet_to_answer_does_not_go(chain: Chain) -> None:
    frontswap, backends = chain
    backends[0].says_later = True
    store_later(frontswap, 5, b"x")
    with pytest.raises(InvalidArgument, match="under way"):
        frontswap.unregister("backend0")


def test_nor_does_one_whose_store_was_overtaken(chain: Chain) -> None:
    """It still writes; another one in its place could be written over."""
    frontswap, backends = chain
    backends[0].says_later = True
    store_later(frontswap, 5, b"x")
    backends[0].says_later = False
    frontswap.store(PageNumber(5), b"newer")
    frontswap.invalidate_page(PageNumber(5))
    with pytest.raises(InvalidArgument, match="under way"):
        frontswap.unregister("backend0")
    backends[0].waiting[0].end()
    frontswap.unregister("backend0")


def test_a_backend_that_comes_while_pages_are_counted_is_finished_too(
    memory: SharedMemory,
) -> None:
    backends = left_behind(memory)
    state = memory.attach()
    frontswap = Frontswap(SlotTable(state.slots, state.geometry.page_count))
    for order, backend in enumerate(backends):
        frontswap.register(backend, order=order)
        backend.pieces_left = 2
    while backends[0].pieces_left > 0:
        frontswap.adopt_some()
    late = FakeBackend("late", 77)
    frontswap.register(late, order=99)
    frontswap.adopt_all()
    assert late.pieces_left <= 0


# -- after a crash ---------------------------------------------------------------------------


def left_behind(memory: SharedMemory) -> list[FakeBackend]:
    """Pages 0 to 29 in three backends in turn, and a word that can't be right."""
    frontswap, backends = chain_of(3, memory)
    for page in page_range(0, 30):
        for number, backend in enumerate(backends):
            backend.error = None if page % 3 == number else StoreRefused("not mine")
        frontswap.store(page, bytes([page]))
    frontswap.slots.commit(PageNumber(40), foreign_word(0, 999))
    return backends


def test_each_backend_adopts_its_pages(
    memory: SharedMemory, caplog: pytest.LogCaptureFixture
) -> None:
    backends = left_behind(memory)
    state = memory.attach()
    frontswap = Frontswap(SlotTable(state.slots, state.geometry.page_count))
    for order, backend in enumerate(backends):
        frontswap.register(backend, order=order)
        backend.error, backend.pieces_left = None, 2
    assert frontswap.uncounted_pages == 512
    with pytest.raises(InvalidArgument, match="counted"):
        frontswap.unregister("backend0")
    assert frontswap.load(PageNumber(7)) == bytes([7]), "loads need not wait for it"
    with caplog.at_level(logging.ERROR):
        frontswap.adopt_all()
    assert [backend.adopted for backend in backends] == [
        [*range(0, 30, 3)],
        [*range(1, 30, 3), 40],
        [*range(2, 30, 3)],
    ]
    assert "1 slot words are corrupt" in caplog.text
    assert is_corrupt(frontswap.slots.words[40])
    assert [frontswap.load(page) for page in page_range(0, 30)] == [
        bytes([page]) for page in range(30)
    ]
    assert not frontswap.adopting


def test_what_is_changed_is_counted_before(memory: SharedMemory) -> None:
    backends = left_behind(memory)
    state = memory.attach()
    frontswap = Frontswap(SlotTable(state.slots, state.geometry.page_count))
    for order, backend in enumerate(backends):
        frontswap.register(backend, order=order)
        backend.error = None
    frontswap.store(PageNumber(1), b"new")
    assert sum(len(backend.adopted) for backend in backends) == 31
    frontswap.adopt_all()
    assert sum(len(backend.adopted) for backend in backends) == 31


def test_pages_of_a_backend_that_is_not_there_give_errors_and_are_kept(
    memory: SharedMemory,
) -> None:
    backends = left_behind(memory)
    state = memory.attach()
    frontswap = Frontswap(SlotTable(state.slots, state.geometry.page_count))
    frontswap.register(backends[0], order=0)
    frontswap.adopt_all()
    word = frontswap.slots.get(PageNumber(1))
    assert frontswap.links.owner_of(word) is None
    assert not is_corrupt(word), "it may come back"
    backends[0].error = None
    frontswap.store(PageNumber(1), b"new")
    assert frontswap.load(PageNumber(1)) == b"new"


def test_a_chain_without_a_backend_of_objects_says_so(memory: SharedMemory) -> None:
    backends = left_behind(memory)
    state = memory.attach()
    frontswap = Frontswap(SlotTable(state.slots, state.geometry.page_count))
    frontswap.register(backends[1], order=0)
    frontswap.adopt_all()
    assert frontswap.load(PageNumber(1)) == bytes([1])
    with pytest.raises(CorruptData, match="no backend"):
        frontswap.load(PageNumber(0))
    frontswap.invalidate_page(PageNumber(0))
    assert frontswap.load(PageNumber(0)) is None


# -- load and invalidate ---------------------------------------------------------------------


@pytest.mark.parametrize("holder", [0, 1, 2])
def test_the_word_says_who_has_the_page_and_it_stays(chain: Chain, holder: int) -> None:
    frontswap, backends = chain
    refuse(*backends[:holder])
    frontswap.store(PageNumber(9), b"here")
    assert [frontswap.load(PageNumber(9)), frontswap.load(PageNumber(9))] == [b"here", b"here"]
    assert frontswap.load(PageNumber(10)) is None
    assert frontswap.statistics().loads == 3


def test_a_corrupt_page_is_not_counted_as_loaded(chain: Chain) -> None:
    frontswap, _ = chain
    frontswap.store(PageNumber(1), CORRUPT)
    with pytest.raises(CorruptData):
        frontswap.load(PageNumber(1))
    assert frontswap.statistics().loads == 0


def test_invalidate_page_counts_what_was_there(chain: Chain) -> None:
    frontswap, backends = chain
    frontswap.store(PageNumber(3), b"x")
    frontswap.invalidate_page(PageNumber(3))
    frontswap.invalidate_page(PageNumber(3))
    assert holders(backends, 3) == []
    assert frontswap.statistics().invalidates == 1


@pytest.mark.parametrize(("first", "count"), [(0, 20), (5, 4), (508, 10), (0, 1 << 20), (7, 0)])
def test_invalidate_area_forgets_just_the_area(chain: Chain, first: int, count: int) -> None:
    frontswap, backends = chain
    stored = [*range(20), *range(505, 520)]
    for page in stored:
        for number, backend in enumerate(backends):
            backend.error = None if page % 3 == number else StoreRefused("not mine")
        frontswap.store(page, b"x")
    frontswap.invalidate_area(PageNumber(first), count)
    left = [page for page in stored if not first <= page < first + count]
    assert sorted(page for one in backends for page, _ in one.kept.values()) == left
    assert frontswap.statistics().invalidates == len(stored) - len(left)
    assert frontswap.slots.stored_pages == len(left)


# -- counters --------------------------------------------------------------------------------


def counted(frontswap: Frontswap) -> list[tuple[str, int, int, int]]:
    """Of each backend: stores, refusals, loads."""
    return [
        (one.backend, one.backend_stores, one.backend_refusals, one.backend_loads)
        for one in frontswap.by_backend()
    ]


def test_each_backend_has_its_part(chain: Chain) -> None:
    frontswap, backends = chain
    for page in page_range(0, 4):
        frontswap.store(page, b"a")
    for number in (4, 5):
        refuse(backends[number - 4])
        frontswap.store(PageNumber(number), b"b")
    refuse(backends[2])
    with pytest.raises(StoreRefused):
        frontswap.store(PageNumber(6), b"d")
    for number in (0, 1, 2, 4, 5, 5, 6, 7):
        frontswap.load(PageNumber(number))
    assert counted(frontswap) == [
        ("backend0", 4, 3, 3),
        ("backend1", 1, 2, 1),
        ("backend2", 1, 1, 2),
    ]
    assert numbers(frontswap) == (8, 6, 1, 0)


def test_a_store_that_ends_late_is_of_the_backend_that_took_it(chain: Chain) -> None:
    frontswap, backends = chain
    refuse(backends[0])
    backends[1].says_later = True
    for error in (None, OSError("broken")):
        store_later(frontswap, 1, b"a")
        backends[1].waiting[0].end(error)
    assert counted(frontswap) == [
        ("backend0", 0, 2, 0),
        ("backend1", 1, 1, 0),
        ("backend2", 0, 0, 0),
    ]
    assert numbers(frontswap) == (0, 1, 1, 0)


def test_what_is_brought_back_is_no_new_page(chain: Chain) -> None:
    frontswap, backends = chain
    refuse(backends[0])
    frontswap.store(PageNumber(5), b"x")
    backends[0].error = None
    Moves(frontswap).bring_back(PageNumber(5), b"x")
    assert holders(backends, 5) == [0]
    assert numbers(frontswap) == (0, 1, 0, 0)
    assert frontswap.statistics().duplicate_entry == 0
