"""Notes of calls: a worker that ended inside a plugin's codec tells the next one."""

from __future__ import annotations

import pytest

from fuseswap.codecs.call_notes import MOST_DEATHS, NOTES_BYTES, CallNotes

NUMBER = 11


@pytest.fixture
def memory() -> bytearray:
    return bytearray(NOTES_BYTES + 4)


def end_inside(memory: bytearray, number: int = NUMBER) -> None:
    """As a process that is killed: what is written stays."""
    found: list[bytes] = []

    def work(given: int) -> int:
        found.append(bytes(memory))
        return given

    CallNotes(memory, 4).watched(number, work)(1)
    memory[:] = found[0]


def test_a_call_that_ends_leaves_nothing(memory: bytearray) -> None:
    notes = CallNotes(memory, 4)
    assert notes.watched(NUMBER, str)(1) == "1"
    with pytest.raises(ValueError, match="x"):
        notes.watched(NUMBER, int)("x")
    assert notes.read_death() == 0
    assert memory == bytearray(len(memory))


def test_one_that_does_not_is_counted_for_the_next(memory: bytearray) -> None:
    for number in range(1, MOST_DEATHS + 1):
        end_inside(memory)
        notes = CallNotes(memory, 4)
        assert notes.read_death() == NUMBER
        assert notes.read_death() == 0
        assert notes.deaths(NUMBER) == number
        assert notes.deaths(NUMBER + 1) == 0


def test_many_answers_begin_a_new_row(memory: bytearray) -> None:
    end_inside(memory)
    notes = CallNotes(memory, 4)
    notes.read_death()
    watched = notes.watched(NUMBER, lambda given: given)
    for number in range(1000):
        assert notes.deaths(NUMBER) == 1
        watched(number)
    assert notes.deaths(NUMBER) == 0


def test_what_cannot_be_is_nothing(memory: bytearray) -> None:
    for number in (1, 8, 16, 255):
        memory[4] = number
        assert CallNotes(memory, 4).read_death() == 0
    memory[4 + NUMBER] = 255
    end_inside(memory)
    CallNotes(memory, 4).read_death()
    assert CallNotes(memory, 4).deaths(NUMBER) == 255
