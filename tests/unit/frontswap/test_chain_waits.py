"""The front end: stores that wait, or that a backend answers later."""

from __future__ import annotations

import pytest

from fuseswap.errors import Deferred, StoreRefused
from fuseswap.frontswap.moves import Moves
from fuseswap.units import PageNumber
from tests.support.chains import holders, refuse, store_later
from tests.support.fake_backend import FakeBackend, chain_of
from tests.support.memory_stores import AskAgain, SharedMemory, set_patience

# -- a refusal that is waited for --------------------------------------------------------


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("has_old", [False, True])
def test_a_store_that_waits_has_changed_nothing(
    memory: SharedMemory, replace: bool, has_old: bool
) -> None:
    frontswap, (second,) = chain_of(1, memory)
    frontswap.unregister(second.name)
    first = FakeBackend("first", None)
    frontswap.register(first, order=0, patience=lambda page, refusal: AskAgain(str(refusal)))
    if has_old:
        frontswap.store(PageNumber(5), b"old")
    before = frontswap.slots.get(PageNumber(5))
    first.error = StoreRefused("full")
    for _ in range(3):
        with pytest.raises(AskAgain) as caught:
            frontswap.store(PageNumber(5), b"new", replace)
        assert not caught.value.taken
    assert frontswap.slots.get(PageNumber(5)) == before
    assert frontswap.load(PageNumber(5)) == (b"old" if has_old else None)
    first.error = None
    frontswap.store(PageNumber(5), b"new", replace)
    assert frontswap.load(PageNumber(5)) == b"new"
    assert len(first.kept) == frontswap.slots.stored_pages == 1
    assert frontswap.statistics().failed_stores == 0


# -- a store that ends later -------------------------------------------------------------


@pytest.mark.parametrize("late", [0, 1, 2, 3])
@pytest.mark.parametrize("holder", [0, 1, 2, 3])
@pytest.mark.parametrize("fails", [False, True])
def test_a_late_store_never_brings_an_older_version_back(
    memory: SharedMemory, late: int, holder: int, fails: bool
) -> None:
    frontswap, backends = chain_of(4, memory)
    refuse(*backends[:holder])
    frontswap.store(PageNumber(5), b"old")
    for backend in backends:
        backend.error = None
    refuse(*backends[:late])
    backends[late].says_later = True
    answers = store_later(frontswap, 5, b"new")
    assert holders(backends, 5) == []
    assert frontswap.load(PageNumber(5)) == b"new"
    assert frontswap.is_late(PageNumber(5))
    (waiting,) = backends[late].waiting
    waiting.end(OSError("broken") if fails else None)
    assert frontswap.load(PageNumber(5)) == (None if fails else b"new")
    assert holders(backends, 5) == ([] if fails else [late])
    assert isinstance(answers[0], StoreRefused) if fails else answers == [0]
    assert not frontswap.is_late(PageNumber(5))
    assert frontswap.statistics().failed_stores == fails
    assert frontswap.slots.stored_pages == (not fails)


@pytest.mark.parametrize("then", ["stored", "discarded", "area", "stored late"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_late_store_is_committed_only_where_it_is_the_newest(
    memory: SharedMemory, then: str, fails: bool
) -> None:
    frontswap, (first, second) = chain_of(2, memory)
    refuse(first)
    second.says_later = True
    store_later(frontswap, 5, b"older")
    (older,) = second.waiting
    expected: bytes | None = None
    if then == "stored":
        first.error, expected = None, b"newer"
        frontswap.store(PageNumber(5), b"newer")
    elif then == "stored late":
        expected = b"newer"
        store_later(frontswap, 5, b"newer")
    elif then == "area":
        frontswap.invalidate_area(PageNumber(0), 10)
    else:
        frontswap.invalidate_page(PageNumber(5))
    assert frontswap.load(PageNumber(5)) == expected
    older.end(OSError("broken") if fails else None)
    assert frontswap.load(PageNumber(5)) == expected
    for waiting in list(second.waiting):
        waiting.end()
    assert frontswap.load(PageNumber(5)) == expected
    assert len(first.kept) + len(second.kept) == (expected is not None)
    assert frontswap.slots.stored_pages == (expected is not None)


@pytest.mark.parametrize("bit", [0, 20, 63])
def test_a_bit_that_turns_over_before_the_commit_of_a_late_store_costs_no_page(
    memory: SharedMemory, bit: int
) -> None:
    """The word of its page is a hole until then, and was counted as one."""
    frontswap, (first, second) = chain_of(2, memory)
    frontswap.store(PageNumber(6), b"other")
    refuse(first)
    second.says_later = True
    store_later(frontswap, 5, b"new")
    frontswap.slots.words[5] ^= 1 << bit
    second.waiting[0].end()
    assert frontswap.slots.stored_pages == 2
    frontswap.invalidate_page(PageNumber(6))
    assert frontswap.load(PageNumber(5)) == b"new"
    frontswap.invalidate_page(PageNumber(5))
    assert memory.allocated_bytes("slots") == 0


def test_the_bytes_of_a_late_store_are_there_once(memory: SharedMemory) -> None:
    """A request's are gone by then, and 256 requests may wait, each of many pages."""
    frontswap, (first, second) = chain_of(2, memory)
    refuse(first)
    second.says_later = True
    with pytest.raises(Deferred) as caught:
        frontswap.store(PageNumber(5), memoryview(bytearray(b"new")))
    caught.value.begin(lambda answer: None)
    (waiting,) = second.waiting
    assert frontswap.load(PageNumber(5)) is waiting.data


def test_a_part_of_a_page_is_not_taken_later(memory: SharedMemory) -> None:
    """Its old bytes have to be in reach until the new ones are."""
    frontswap, (first, second) = chain_of(2, memory)
    refuse(first)
    second.says_later = True
    with pytest.raises(StoreRefused):
        frontswap.store(PageNumber(5), b"part", replace=True)
    assert not second.waiting
    assert frontswap.load(PageNumber(5)) is None


def test_the_cluster_of_a_page_that_comes_later_is_kept(memory: SharedMemory) -> None:
    frontswap, (first, second) = chain_of(2, memory)
    refuse(first)
    second.says_later = True
    store_later(frontswap, 600, b"new")
    first.error = None
    frontswap.store(PageNumber(601), b"other")
    frontswap.invalidate_page(PageNumber(601))
    assert memory.allocated_bytes("slots") == 4096
    second.waiting[0].end()
    assert frontswap.load(PageNumber(600)) == b"new"
    frontswap.invalidate_page(PageNumber(600))
    assert memory.allocated_bytes("slots") == 0


def test_a_store_that_waits_leaves_a_late_one_alone(memory: SharedMemory) -> None:
    frontswap, (first, second) = chain_of(2, memory)
    refuse(first)
    second.says_later = True
    store_later(frontswap, 5, b"new")
    frontswap.links._set([])
    frontswap.register(first, order=0, patience=lambda page, refusal: AskAgain(str(refusal)))
    frontswap.register(second, order=1)
    with pytest.raises(AskAgain):
        frontswap.store(PageNumber(5), b"newer")
    assert frontswap.load(PageNumber(5)) == b"new"
    second.waiting[0].end()
    assert frontswap.load(PageNumber(5)) == b"new"


# -- a page that comes back into memory ----------------------------------------------------


@pytest.mark.parametrize("waits", [False, True])
def test_a_page_that_can_not_be_brought_back_stays_where_it_is(
    memory: SharedMemory, waits: bool
) -> None:
    """Nothing of it is new: a refusal must not cost it."""
    frontswap, (first, second) = chain_of(2, memory)
    page = PageNumber(5)
    refuse(first)
    frontswap.store(page, b"x")
    if waits:
        set_patience(frontswap, lambda page, refusal: AskAgain(str(refusal)))
    refuse(second)
    before = frontswap.slots.get(page)
    with pytest.raises(AskAgain if waits else StoreRefused):
        Moves(frontswap).bring_back(page, b"x")
    assert frontswap.slots.get(page) == before
    assert frontswap.load(page) == b"x"
    assert len(second.kept) == 1
