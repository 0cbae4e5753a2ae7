"""Read-ahead: windows for streams that go forward, and nothing for the others."""

from __future__ import annotations

import errno

import pytest

from fuseswap.tiers.readahead import WINDOW_BYTES, Done, ReadAhead
from fuseswap.units import PAGE_SIZE, SEGMENT_BYTES, Location

SEGMENT = bytes(n // 64 % 251 for n in range(SEGMENT_BYTES))
HERE = (Location(0, 3), 17)  # and sequence


class Reader:
    """Reads through a `ReadAhead`; its windows end when the test says."""

    def __init__(self) -> None:
        self.ahead = ReadAhead(self.begin)
        self.windows: list[tuple[int, int, int, Done]] = []
        self.alone: list[tuple[int, int]] = []
        self.found: list[tuple[int, bytes | OSError]] = []

    def begin(
        self, location: Location, sequence: int, offset: int, length: int, done: Done
    ) -> None:
        self.windows.append((location.extent, offset, length, done))

    def read(self, offset: int, length: int, where: tuple[Location, int] = HERE) -> None:
        self.ahead.begin_read(
            where,
            offset,
            length,
            lambda found: self.found.append((offset, found)),
            lambda: self.alone.append((offset, length)),
        )

    def arrive(self) -> None:
        _, offset, length, done = self.windows.pop(0)
        done(SEGMENT[offset : offset + length])


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.mark.parametrize("offset", [0, 100, PAGE_SIZE, SEGMENT_BYTES // 2])
def test_a_first_read_is_made_alone(reader: Reader, offset: int) -> None:
    reader.read(offset, 500)
    assert (reader.alone, reader.windows) == ([(offset, 500)], [])


def test_a_read_that_goes_on_brings_a_window(reader: Reader) -> None:
    reader.read(1000, 500)
    reader.read(1700, 800)
    assert [window[:3] for window in reader.windows] == [(3, 1700, WINDOW_BYTES)]
    reader.read(2600, 100)  # waits for the same window
    assert reader.found == []
    reader.arrive()
    reader.read(5000, 3000)  # there already
    assert reader.found == [
        (at, SEGMENT[at : at + n]) for at, n in ((1700, 800), (2600, 100), (5000, 3000))
    ]
    assert (reader.ahead.reads, reader.ahead.hits) == (1, 2)
    assert reader.alone == [(1000, 500)]


def test_the_next_window_follows(reader: Reader) -> None:
    reader.read(0, 100)
    reader.read(100, 100)
    reader.arrive()
    at = 100 + WINDOW_BYTES - 50
    reader.read(at - 200, 200)
    reader.read(at, 100)  # half beyond the window
    assert [window[:2] for window in reader.windows] == [(3, at)]


def test_reads_here_and_there_bring_none(reader: Reader) -> None:
    for offset in (500_000, 100_000, 300_000, 99_000, 400_000):
        reader.read(offset, 1000)
    assert not reader.windows
    assert len(reader.alone) == 5


def test_another_segment_on_the_same_extent_is_not_this_one(reader: Reader) -> None:
    reader.read(0, 100)
    reader.read(100, 100)
    reader.arrive()
    reader.read(300, 100, (Location(0, 3), 18))
    assert reader.alone == [(0, 100), (300, 100)]


def test_the_same_extent_of_another_tier_is_not_this_one(reader: Reader) -> None:
    reader.read(0, 100)
    reader.read(100, 100)
    reader.arrive()
    reader.read(300, 100, (Location(1, 3), 17))
    assert reader.alone == [(0, 100), (300, 100)]


def test_a_window_that_cannot_be_read_costs_nothing(reader: Reader) -> None:
    reader.read(0, 100)
    reader.read(100, 100)
    reader.read(200, 100)
    reader.windows.pop()[3](OSError(errno.EIO, "the device failed"))
    assert reader.found == []
    assert reader.alone == [(0, 100), (100, 100), (200, 100)]
    reader.read(150, 20)
    assert reader.alone[-1] == (150, 20), "nothing is there"


def test_a_window_ends_with_the_segment(reader: Reader) -> None:
    reader.read(SEGMENT_BYTES - 30_000, 1000)
    reader.read(SEGMENT_BYTES - 29_000, 1000)
    assert reader.windows[0][1:3] == (SEGMENT_BYTES - 29_000, 29_000)


def test_an_answer_may_open_the_next_window(reader: Reader) -> None:
    """The others that waited get what they asked for all the same."""
    found: list[bytes | OSError] = []

    def go_on(_: bytes | OSError) -> None:
        reader.read(1100 + WINDOW_BYTES, 500)

    def begin(offset: int, done: Done) -> None:
        reader.ahead.begin_read(HERE, offset, 400, done, lambda: None)

    reader.read(600, 400)
    begin(1000, go_on)
    begin(1400, found.append)
    reader.read(1000 + WINDOW_BYTES - 500, 500)
    reader.arrive()
    assert [window[:2] for window in reader.windows] == [(3, 1100 + WINDOW_BYTES)]
    assert found == [SEGMENT[1400:1800]]


def test_few_streams_are_known(reader: Reader) -> None:
    for extent in range(20):
        reader.read(0, 100, (Location(0, extent), extent))
    reader.read(100, 100, (Location(0, 0), 0))
    reader.read(100, 100, (Location(0, 19), 19))
    assert [window[0] for window in reader.windows] == [19]


def test_a_read_across_the_end_of_a_window_that_others_wait_for_is_made_alone(
    reader: Reader,
) -> None:
    """Another window would have those who wait for this one answered with its bytes."""
    reader.read(0, PAGE_SIZE)
    reader.alone.clear()
    length = WINDOW_BYTES - PAGE_SIZE
    reader.read(PAGE_SIZE, length)
    reader.read(PAGE_SIZE + length, 2 * PAGE_SIZE)
    assert len(reader.windows) == 1
    assert reader.alone == [(PAGE_SIZE + length, 2 * PAGE_SIZE)]
    reader.arrive()
    assert reader.found == [(PAGE_SIZE, SEGMENT[PAGE_SIZE : PAGE_SIZE + length])]
