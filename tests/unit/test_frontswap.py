"""The front end: frontswap's contract over a chain of backends, and its counters."""

from __future__ import annotations

import pytest

from fuseswap.errors import CorruptData, Deferred, InvalidArgument, StoreRefused
from fuseswap.frontswap import Frontswap, FrontswapStatistics


class FakeBackend:
    """A dict that refuses or fails when told to, and then, by the contract, holds nothing."""

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.pages: dict[int, bytes] = {}
        self.error: Exception | None = None
        self.replaced: list[bool] = []

    def store(self, page: int, data: bytes | memoryview, replace: bool = False) -> None:
        self.pages.pop(page, None)
        self.replaced.append(replace)
        if self.error:
            raise self.error
        self.pages[page] = bytes(data)

    def load(self, page: int) -> bytes | None:
        if self.pages.get(page) == b"corrupt":
            raise CorruptData("fake")
        return self.pages.get(page)

    def invalidate_page(self, page: int) -> bool:
        return self.pages.pop(page, None) is not None

    def invalidate_area(self, first: int, count: int) -> int:
        return sum(self.invalidate_page(page) for page in range(first, first + count))


@pytest.fixture
def chain() -> list[FakeBackend]:
    return [FakeBackend(name) for name in ("first", "second", "third")]


def holders(chain: list[FakeBackend], page: int) -> list[int]:
    return [number for number, backend in enumerate(chain) if page in backend.pages]


def test_a_chain_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        Frontswap([])


@pytest.mark.parametrize("refusing", [0, 1, 2])
def test_the_first_backend_that_takes_the_page_has_it_alone(
    chain: list[FakeBackend], refusing: int
) -> None:
    for backend in chain:
        backend.pages[5] = b"old"
    for backend in chain[:refusing]:
        backend.error = StoreRefused("full")
    frontswap = Frontswap(chain)
    frontswap.store(5, b"new")
    assert holders(chain, 5) == [refusing]
    assert frontswap.load(5) == b"new"
    assert [len(backend.replaced) for backend in chain] == [1] * (refusing + 1) + [0] * (
        2 - refusing
    )


def test_refused_by_all_the_page_is_nowhere(chain: list[FakeBackend]) -> None:
    for backend in chain:
        backend.pages[5] = b"old"
        backend.error = StoreRefused("full")
    frontswap = Frontswap(chain)
    with pytest.raises(StoreRefused, match="page 5"):
        frontswap.store(5, b"new")
    assert holders(chain, 5) == []
    assert frontswap.load(5) is None
    assert frontswap.statistics() == FrontswapStatistics(
        loads=1, succ_stores=0, failed_stores=1, invalidates=0
    )


def test_a_backend_that_fails_leaves_no_old_version_behind_it(chain: list[FakeBackend]) -> None:
    chain[1].pages[5] = b"old"
    chain[0].error = OSError("broken")
    frontswap = Frontswap(chain)
    with pytest.raises(OSError, match="broken"):
        frontswap.store(5, b"new")
    assert frontswap.load(5) is None


@pytest.mark.parametrize("late", [1, 2, 3])
def test_a_late_store_that_fails_leaves_a_hole(late: int) -> None:
    """Behind the backend that said "later" nothing older is found."""
    chain = [FakeBackend(name) for name in ("first", "second", "third", "fourth")]
    for backend in chain:
        backend.pages[5] = b"old"
    for backend in chain[:late]:
        backend.error = StoreRefused("full")
    chain[late].error = Deferred("later")
    frontswap = Frontswap(chain)
    with pytest.raises(Deferred):
        frontswap.store(5, b"new")
    assert holders(chain, 5) == []
    frontswap.note_late(chain[late], False)
    assert frontswap.load(5) is None
    assert frontswap.counters.failed_stores == 1


def test_where_the_first_says_later_nothing_has_changed(chain: list[FakeBackend]) -> None:
    """It is asked again; the old version is where it was."""

    def refuse(page: int, data: bytes | memoryview, replace: bool = False) -> None:
        raise Deferred("no room yet")

    chain[0].store = refuse  # type: ignore[method-assign]
    chain[1].pages[5] = b"old"
    with pytest.raises(Deferred):
        Frontswap(chain).store(5, b"new")
    assert holders(chain, 5) == [1]


@pytest.mark.parametrize("holder", [0, 1, 2])
def test_load_asks_in_order_and_the_page_stays(chain: list[FakeBackend], holder: int) -> None:
    chain[holder].pages[9] = b"here"
    frontswap = Frontswap(chain)
    assert [frontswap.load(9), frontswap.load(9)] == [b"here", b"here"]
    assert frontswap.load(10) is None
    assert frontswap.statistics().loads == 3


def test_a_corrupt_page_is_not_looked_for_elsewhere(chain: list[FakeBackend]) -> None:
    chain[0].pages[1] = b"corrupt"
    chain[1].pages[1] = b"older"
    with pytest.raises(CorruptData):
        Frontswap(chain).load(1)


def test_replace_reaches_the_backend(chain: list[FakeBackend]) -> None:
    frontswap = Frontswap(chain[:1])
    frontswap.store(1, b"a")
    frontswap.store(1, b"b", replace=True)
    assert chain[0].replaced == [False, True]


def test_invalidate_page_forgets_it_everywhere_and_counts_what_was_there(
    chain: list[FakeBackend],
) -> None:
    for backend in chain[1:]:
        backend.pages[3] = b"x"
    frontswap = Frontswap(chain)
    frontswap.invalidate_page(3)
    frontswap.invalidate_page(3)
    assert holders(chain, 3) == []
    assert frontswap.statistics().invalidates == 2


def test_invalidate_area_forgets_just_the_area(chain: list[FakeBackend]) -> None:
    for page in range(10):
        chain[page % 3].pages[page] = b"x"
    frontswap = Frontswap(chain)
    frontswap.invalidate_area(2, 5)
    assert sorted(page for backend in chain for page in backend.pages) == [0, 1, 7, 8, 9]
    assert frontswap.statistics().invalidates == 5


def test_stores_are_counted_by_their_outcome(chain: list[FakeBackend]) -> None:
    frontswap = Frontswap(chain[:2])
    frontswap.store(1, b"a")
    chain[0].error = StoreRefused("full")
    frontswap.store(2, b"b")
    chain[1].error = StoreRefused("full")
    with pytest.raises(StoreRefused):
        frontswap.store(3, b"c")
    assert frontswap.statistics() == FrontswapStatistics(
        loads=0, succ_stores=2, failed_stores=1, invalidates=0
    )


def counted(frontswap: Frontswap) -> list[tuple[str, int, int, int]]:
    """Of each backend: stores, refusals, loads."""
    return [
        (one.backend, one.backend_stores, one.backend_refusals, one.backend_loads)
        for one in frontswap.by_backend()
    ]


def test_each_backend_has_its_part(chain: list[FakeBackend]) -> None:
    frontswap = Frontswap(chain)
    for page in range(4):
        frontswap.store(page, b"a")
    chain[0].error = StoreRefused("full")
    frontswap.store(4, b"b")
    chain[1].error = StoreRefused("full")
    frontswap.store(5, b"c")
    chain[2].error = StoreRefused("full")
    with pytest.raises(StoreRefused):
        frontswap.store(6, b"d")
    for page in (0, 1, 2, 4, 5, 5, 6, 7):
        frontswap.load(page)
    assert counted(frontswap) == [("first", 4, 3, 3), ("second", 1, 2, 1), ("third", 1, 1, 2)]
    assert frontswap.statistics().succ_stores == 6
    assert frontswap.statistics().loads == 8


def test_a_store_that_ends_late_is_of_the_backend_that_took_it(chain: list[FakeBackend]) -> None:
    frontswap = Frontswap(chain)
    chain[0].error = StoreRefused("full")
    chain[1].error = Deferred("later")
    for stored in (True, False):
        with pytest.raises(Deferred):
            frontswap.store(1, b"a")
        frontswap.note_late(chain[1], stored)
    assert counted(frontswap) == [("first", 0, 2, 0), ("second", 1, 1, 0), ("third", 0, 0, 0)]
    assert frontswap.statistics() == FrontswapStatistics(
        loads=0, succ_stores=1, failed_stores=1, invalidates=0
    )
