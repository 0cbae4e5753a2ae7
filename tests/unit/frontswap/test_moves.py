"""Pages that go from one backend to another: nothing of them is new, and none is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fuseswap.errors import RETRY, CorruptData, Deferred, StoreRefused
from fuseswap.frontswap.chain import Frontswap
from fuseswap.frontswap.moves import CLUSTERS_AT_ONCE, Move, Moves
from fuseswap.store.slot_table import CLUSTER_SHIFT
from fuseswap.store.slot_word import is_corrupt
from fuseswap.units import FIRST_PAGE, PageNumber
from tests.support.chains import holders, refuse
from tests.support.fake_backend import CORRUPT, FakeBackend, chain_of
from tests.support.memory_stores import AskAgain, SharedMemory, set_patience

FIVE = PageNumber(5)
Chain = tuple[Frontswap, list[FakeBackend]]


@pytest.fixture
def chain(memory: SharedMemory) -> Chain:
    """Page 5 is in the second of three backends, which is being drained."""
    frontswap, backends = chain_of(3, memory)
    refuse(backends[0])
    frontswap.store(FIVE, b"x")
    backends[0].error = None
    frontswap.set_draining("backend1", True)
    return frontswap, backends


def move(frontswap: Frontswap) -> Deferred | None:
    """One try of page 5, out of the second."""
    moves = Moves(frontswap)
    loaded = loaded_from(frontswap)
    assert loaded is not None
    return moves.store(loaded, list(frontswap.links.takers))


def loaded_from(frontswap: Frontswap) -> Move | None:
    return Moves(frontswap).load(frontswap.links.find("backend1"), FIVE)


@pytest.mark.parametrize("taker", [0, 2])
def test_the_first_of_the_others_that_takes_a_page_has_it(chain: Chain, taker: int) -> None:
    frontswap, backends = chain
    refuse(*backends[:taker])
    before = frontswap.statistics()
    assert move(frontswap) is None
    assert holders(backends, 5) == [taker]
    assert frontswap.load(FIVE) == b"x"
    after = frontswap.statistics()
    assert (after.succ_stores, after.failed_stores) == (before.succ_stores, before.failed_stores)
    assert frontswap.slots.stored_pages == 1


def test_while_it_is_drained_it_is_asked_for_no_store(chain: Chain) -> None:
    frontswap, backends = chain
    refuse(backends[0])
    frontswap.store(PageNumber(6), b"y")
    assert holders(backends, 6) == [2]
    frontswap.set_draining("backend1", False)
    frontswap.store(PageNumber(7), b"z")
    assert holders(backends, 7) == [1]


def test_a_page_that_nobody_takes_stays(chain: Chain) -> None:
    frontswap, backends = chain
    backends[0].error = StoreRefused("full")
    backends[2].error = OSError("broken")
    word = frontswap.slots.get(FIVE)
    with pytest.raises(StoreRefused, match=r"backend2.*broken"):
        move(frontswap)
    assert frontswap.slots.get(FIVE) == word
    assert (frontswap.load(FIVE), holders(backends, 5)) == (b"x", [1])


def test_a_refusal_worth_waiting_for_is_waited_for(chain: Chain) -> None:
    frontswap, backends = chain
    refuse(backends[0])
    set_patience(frontswap, lambda page, refusal: AskAgain(str(refusal)))
    assert isinstance(move(frontswap), AskAgain)
    assert holders(backends, 5) == [1], "the third was not asked"


def later(frontswap: Frontswap, backends: list[FakeBackend]) -> list[Any]:
    """A move that the first backend takes later; its answers go into the list."""
    backends[0].says_later = True
    wait = move(frontswap)
    backends[0].says_later = False
    assert wait is not None
    answers: list[Any] = []
    wait.begin(answers.append)
    return answers


def test_a_page_that_is_taken_later_is_in_its_old_place_till_then(chain: Chain) -> None:
    frontswap, backends = chain
    answers = later(frontswap, backends)
    assert (frontswap.load(FIVE), holders(backends, 5), answers) == (b"x", [1], [])
    backends[0].waiting[0].end()
    assert answers == [RETRY]
    assert (frontswap.load(FIVE), holders(backends, 5)) == (b"x", [0])


def test_a_write_that_fails_leaves_it_there(chain: Chain) -> None:
    frontswap, backends = chain
    answers = later(frontswap, backends)
    backends[0].waiting[0].end(OSError("broken"))
    assert isinstance(answers[0], OSError)
    assert (frontswap.load(FIVE), holders(backends, 5)) == (b"x", [1])


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda frontswap: frontswap.store(FIVE, b"newer"), b"newer"),
        (lambda frontswap: frontswap.invalidate_page(FIVE), None),
    ],
)
def test_a_page_that_changed_meanwhile_is_not_written_over(
    chain: Chain, change: Callable[[Frontswap], None], left: bytes | None
) -> None:
    frontswap, backends = chain
    later(frontswap, backends)
    change(frontswap)
    backends[0].waiting[0].end()
    assert frontswap.load(FIVE) == left
    assert sum(len(backend.kept) for backend in backends) == (left is not None)


def test_a_page_that_has_gone_is_not_loaded(chain: Chain) -> None:
    frontswap, _ = chain
    assert move(frontswap) is None
    assert loaded_from(frontswap) is None


def test_a_corrupt_page_is_an_error_from_then_on(chain: Chain) -> None:
    """Its backend may go; its word says so until it is stored again."""
    frontswap, backends = chain
    backends[1].kept = {key: (page, CORRUPT) for key, (page, _) in backends[1].kept.items()}
    with pytest.raises(CorruptData):
        loaded_from(frontswap)
    Moves(frontswap).give_up(frontswap.links.find("backend1"), FIVE)
    assert is_corrupt(frontswap.slots.get(FIVE))
    frontswap.unregister("backend1")
    frontswap.store(FIVE, b"new")
    assert frontswap.load(FIVE) == b"new"
    assert frontswap.slots.stored_pages == 1


def test_pages_are_found_in_bounded_pieces(memory: SharedMemory) -> None:
    frontswap, backends = chain_of(2, memory)
    refuse(backends[0])
    stored = [PageNumber(page) for page in (0, 1, 511, 512, 1279)]
    for page in stored:
        frontswap.store(page, b"x")
    backends[0].error = None
    frontswap.store(PageNumber(2), b"of the other")
    found, page, pieces = [], FIRST_PAGE, 0
    while page < frontswap.slots.page_count:
        some, page = Moves(frontswap).pages_of(0, page)
        found += some
        pieces += 1
    assert found == stored
    assert pieces == -(-frontswap.slots.page_count // (CLUSTERS_AT_ONCE << CLUSTER_SHIFT))
