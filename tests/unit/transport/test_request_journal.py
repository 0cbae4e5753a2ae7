"""The journal: what is taken stays until it is answered, in order, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fuseswap.store.region import Region
from fuseswap.transport.fuse_protocol import BUFFER_BYTES
from fuseswap.transport.request_journal import LARGE_SLOTS, Journal
from fuseswap.units import MIB, PAGE_SIZE
from tests.support.fuse_requests import Op, request

SLOTS = LARGE_SLOTS + 4
SLOT_0 = PAGE_SIZE + BUFFER_BYTES  # the table and the read buffer


class Killed(BaseException):
    """The process dies here."""


class LastWords:
    """The words of a journal whose process dies instead of writing one more than ``left``."""

    def __init__(self, words: memoryview, left: int) -> None:
        self._words = words
        self._left = left

    def __getitem__(self, index: int) -> Any:
        return self._words[index]

    def __setitem__(self, index: int, word: int) -> None:
        if not self._left:
            raise Killed
        self._left -= 1
        self._words[index] = word


@pytest.fixture
def fd() -> Iterator[int]:
    made = os.memfd_create("journal")
    os.ftruncate(made, PAGE_SIZE + (1 + SLOTS) * BUFFER_BYTES)
    yield made
    os.close(made)


@pytest.fixture
def attach(fd: int) -> Callable[[], Journal]:
    """The journal as each worker in turn sees it."""
    return lambda: Journal(Region(fd))


@pytest.fixture
def journal(attach: Callable[[], Journal]) -> Journal:
    return attach()


def message(unique: int, size: int = 100) -> bytes:
    return request(Op.WRITE, 2, bytes([unique]) * size, unique)


def receive(journal: Journal, unique: int, size: int = 100) -> None:
    """What read(2) does."""
    text = message(unique, size)
    journal.buffer[: len(text)] = text


def wait(journal: Journal, unique: int, size: int = 100) -> int:
    """A request comes and must wait; returns its slot."""
    receive(journal, unique, size)
    return journal.take()


def uniques(journal: Journal) -> list[int]:
    """The requests in it, in order, each checked byte for byte."""
    found = []
    for slot in journal.taken():
        text = bytes(journal.view(slot)[: journal.length_of(slot)])
        unique = text[8]
        assert text == message(unique, len(text) - 40)
        found.append(unique)
    return found


def allocated(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


def test_a_new_one_is_empty(journal: Journal) -> None:
    assert journal.taken() == []
    assert (journal.has_room, journal.is_empty) == (True, True)


def test_what_was_read_is_taken_until_it_is_cleared(
    journal: Journal, attach: Callable[[], Journal]
) -> None:
    receive(journal, 1)
    assert uniques(attach()) == [1]
    journal.clear()
    assert attach().taken() == []


def test_the_order_is_that_of_arrival_in_whatever_slot(
    journal: Journal, attach: Callable[[], Journal]
) -> None:
    slots = [wait(journal, unique) for unique in (1, 2, 3)]
    journal.free(slots[0])
    journal.free(slots[1])
    wait(journal, 4)
    wait(journal, 5)
    receive(journal, 6)
    assert uniques(journal) == uniques(attach()) == [3, 4, 5, 6]


def test_the_next_worker_goes_on_counting(journal: Journal, attach: Callable[[], Journal]) -> None:
    for unique in (1, 2, 3):
        wait(journal, unique)
    journal.free(journal.taken()[0])
    second = attach()
    wait(second, 4)
    assert uniques(attach()) == [2, 3, 4]


def test_slots_are_bounded_and_used_again(journal: Journal, attach: Callable[[], Journal]) -> None:
    slots = []
    for unique in range(1, SLOTS + 1):
        assert journal.has_room
        slots.append(wait(journal, unique))
    assert len(set(slots)) == SLOTS
    assert 0 not in slots
    assert (journal.has_room, attach().has_room) == (False, False)
    journal.free(slots[2])
    assert (journal.has_room, attach().has_room) == (True, True)
    assert wait(journal, 9) == slots[2]
    assert uniques(attach()) == [1, 2, *range(4, SLOTS + 1), 9]
    for slot in journal.taken():
        journal.free(slot)
    assert (journal.is_empty, attach().is_empty) == (True, True)


def test_the_largest_request_moves_whole(journal: Journal, attach: Callable[[], Journal]) -> None:
    wait(journal, 1, BUFFER_BYTES - 40)
    wait(journal, 2, MIB)
    assert uniques(attach()) == [1, 2]


@pytest.mark.parametrize(("words", "found"), [(0, [1, 7]), (1, [1, 7]), (2, [1, 7])])
def test_killed_while_taking(
    journal: Journal, attach: Callable[[], Journal], words: int, found: list[int]
) -> None:
    """Before the commit it is in slot 0, after it in its own, and never in both."""
    wait(journal, 1)
    receive(journal, 7)
    journal._words = LastWords(journal._words, words)  # type: ignore[assignment]
    if words < 2:
        with pytest.raises(Killed):
            journal.take()
    else:
        journal.take()
    second = attach()
    assert uniques(second) == found
    assert (second.taken()[-1] == 0) is (words == 0)
    receive(second, 8)
    assert uniques(attach()) == [*([1] if words == 0 else found), 8]


def test_the_bytes_are_in_a_slot_before_it_is_taken(journal: Journal) -> None:
    receive(journal, 7)
    slot = journal._free[-1]
    journal._words = LastWords(journal._words, 0)  # type: ignore[assignment]
    with pytest.raises(Killed):
        journal.take()
    assert bytes(journal.view(slot)[: len(message(7))]) == message(7)


def test_a_slot_half_written_by_the_dead_is_free(
    journal: Journal, attach: Callable[[], Journal]
) -> None:
    receive(journal, 1, 5000)
    journal._words = LastWords(journal._words, 0)  # type: ignore[assignment]
    with pytest.raises(Killed):
        journal.take()
    second = attach()
    assert second.is_empty
    second.clear()
    wait(second, 2, 10)
    assert uniques(attach()) == [2]


def test_a_freed_slot_keeps_little_memory(journal: Journal, fd: int) -> None:
    slots = [wait(journal, unique, MIB) for unique in (1, 2)]
    before = allocated(fd)
    for slot in slots:
        journal.free(slot)
    assert before - allocated(fd) > 2 * MIB - 64 * 1024
    small = wait(journal, 3, 4096)
    kept = allocated(fd)
    journal.free(small)
    assert allocated(fd) == kept, "no system call for a request of a page"


def test_the_next_worker_returns_what_free_slots_held(
    journal: Journal, attach: Callable[[], Journal], fd: int
) -> None:
    slots = [wait(journal, unique, MIB) for unique in range(1, LARGE_SLOTS + 4)]
    for slot in slots[:2] + slots[-2:]:
        journal._words[slot] = 0  # killed before the memory was returned
    held = allocated(fd)
    second = attach()
    assert uniques(second) == list(range(3, LARGE_SLOTS + 2))
    assert 2 * MIB - 5 * 4096 <= held - allocated(fd) <= 2 * MIB, "some is to be resident"


def test_once_prepared_no_request_takes_or_returns_memory(journal: Journal, fd: int) -> None:
    journal.prepare()
    held = allocated(fd)
    for _ in range(3):
        large = [wait(journal, unique, MIB) for unique in range(1, LARGE_SLOTS + 1)]
        assert not journal.has_room, "the next one may be as large"
        small = wait(journal, 9, 4096)
        assert allocated(fd) == held
        assert uniques(journal) == [*range(1, LARGE_SLOTS + 1), 9]
        for slot in (small, *large):
            journal.free(slot)
        assert (journal.is_empty, journal.has_room, allocated(fd)) == (True, True, held)
    for unique in range(SLOTS - LARGE_SLOTS):
        assert journal.has_room
        wait(journal, unique, 100)
    assert not journal.has_room


def test_prepared_memory_is_there_and_unchanged(journal: Journal, fd: int) -> None:
    receive(journal, 3, MIB)
    journal.prepare()
    assert uniques(journal) == [3]
    assert allocated(fd) >= SLOT_0


def test_left_it_holds_nothing(journal: Journal, attach: Callable[[], Journal], fd: int) -> None:
    journal.prepare()
    journal.free(wait(journal, 1, MIB))
    journal.leave()
    assert allocated(fd) == 0
    assert attach().taken() == []
