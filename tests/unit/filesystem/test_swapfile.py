"""The swapfile: any offset and length, holes, discards, and the end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseswap.errors import BeyondEnd, CorruptData, InvalidArgument, StoreRefused
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.swapfile import Swapfile
from fuseswap.units import MIB, PAGE_SIZE, page_range
from tests.support import pages
from tests.support.effort import scaled
from tests.support.memory_stores import SMALL, FrontedCache, SharedMemory

SIZE = SMALL.page_count * PAGE_SIZE


@pytest.fixture
def swapfile(cache: FrontedCache) -> Swapfile:
    return Swapfile(SIZE, cache.frontswap)


def data(length: int, seed: int = 0) -> memoryview:
    """Bytes without a zero among them, each page different from the next."""
    return memoryview(bytes((seed + n // PAGE_SIZE + n) % 251 + 1 for n in range(length)))


# -- the end ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "size", "length"),
    [
        (SIZE - PAGE_SIZE, PAGE_SIZE, PAGE_SIZE),
        (SIZE - PAGE_SIZE, MIB, PAGE_SIZE),
        (SIZE - 1, PAGE_SIZE, 1),
        (SIZE, PAGE_SIZE, 0),
        (SIZE + PAGE_SIZE, PAGE_SIZE, 0),
        (2**63, PAGE_SIZE, 0),
        (0, 0, 0),
    ],
)
def test_reads_end_with_the_file(swapfile: Swapfile, offset: int, size: int, length: int) -> None:
    assert swapfile.read(offset, size) == bytes(length)


@pytest.mark.parametrize(
    ("offset", "length"),
    [(SIZE, PAGE_SIZE), (SIZE + 1, 1), (2**63, PAGE_SIZE)],
)
def test_a_write_beyond_the_end_writes_nothing(
    swapfile: Swapfile, cache: FrontedCache, offset: int, length: int
) -> None:
    with pytest.raises(BeyondEnd):
        swapfile.write(offset, data(length))
    assert cache.slots.stored_pages == 0


@pytest.mark.parametrize("before", [1, 100, PAGE_SIZE, PAGE_SIZE + 100])
def test_a_write_across_the_end_is_short(swapfile: Swapfile, before: int) -> None:
    wanted = data(before + PAGE_SIZE)
    assert swapfile.write(SIZE - before, wanted) == before
    assert swapfile.read(SIZE - before, PAGE_SIZE * 2) == wanted[:before]


def test_a_punch_is_cut_at_the_end(swapfile: Swapfile, cache: FrontedCache) -> None:
    swapfile.write(SIZE - 2 * PAGE_SIZE, data(2 * PAGE_SIZE))
    swapfile.punch(SIZE - PAGE_SIZE, 1 << 60)
    swapfile.punch(SIZE, PAGE_SIZE)
    assert cache.slots.stored_pages == 1


def test_a_size_that_is_no_multiple_of_a_page_is_refused(cache: FrontedCache) -> None:
    for size in (0, -PAGE_SIZE, PAGE_SIZE + 1):
        with pytest.raises(InvalidArgument):
            Swapfile(size, cache.frontswap)


# -- holes -----------------------------------------------------------------------------


def test_a_punch_makes_holes_of_whole_pages_and_zeroes_the_edges(
    swapfile: Swapfile, cache: FrontedCache
) -> None:
    before = data(5 * PAGE_SIZE)
    swapfile.write(0, before)
    swapfile.punch(PAGE_SIZE - 100, 2 * PAGE_SIZE + 300)
    assert [bool(cache.slots.get(page)) for page in page_range(0, 5)] == [
        True,
        False,
        False,
        True,
        True,
    ]
    zeros = 2 * PAGE_SIZE + 300
    start = PAGE_SIZE - 100
    assert swapfile.read(0, 5 * PAGE_SIZE) == (
        bytes(before[:start]) + bytes(zeros) + bytes(before[start + zeros :])
    )


@pytest.mark.parametrize("first", [0, 1, 100, PAGE_SIZE - 1, PAGE_SIZE])
@pytest.mark.parametrize("length", [1, 100, PAGE_SIZE - 1, PAGE_SIZE, PAGE_SIZE + 1, 9000])
def test_a_punch_zeroes_its_range_and_no_other_byte(
    swapfile: Swapfile, first: int, length: int
) -> None:
    model = bytearray(data(5 * PAGE_SIZE))
    swapfile.write(0, memoryview(bytes(model)))
    swapfile.punch(first, length)
    model[first : first + length] = bytes(length)
    assert swapfile.read(0, 5 * PAGE_SIZE) == model


def test_zeros_into_a_hole_leave_a_hole(swapfile: Swapfile, cache: FrontedCache) -> None:
    swapfile.write(100, memoryview(bytes(200)))
    swapfile.punch(PAGE_SIZE + 100, 200)
    swapfile.punch(PAGE_SIZE - 100, 200)
    assert cache.slots.stored_pages == 0


def test_a_partial_write_keeps_the_rest_of_the_page(swapfile: Swapfile) -> None:
    page = pages.CORPUS["incompressible"]
    swapfile.write(PAGE_SIZE, memoryview(page))
    swapfile.write(PAGE_SIZE + 512, memoryview(b"x" * 512))
    assert swapfile.read(PAGE_SIZE, PAGE_SIZE) == page[:512] + b"x" * 512 + page[1024:]


def test_seek_finds_data_and_holes(swapfile: Swapfile) -> None:
    for page in (2, 3, 600):
        swapfile.write(page * PAGE_SIZE, data(PAGE_SIZE))
    assert swapfile.seek_data(0) == 2 * PAGE_SIZE
    assert swapfile.seek_data(2 * PAGE_SIZE + 5) == 2 * PAGE_SIZE + 5
    assert swapfile.seek_data(4 * PAGE_SIZE) == 600 * PAGE_SIZE
    assert swapfile.seek_data(601 * PAGE_SIZE) is None
    assert swapfile.seek_hole(0) == 0
    assert swapfile.seek_hole(17) == 17
    assert swapfile.seek_hole(2 * PAGE_SIZE + 5) == 4 * PAGE_SIZE
    assert swapfile.seek_hole(SIZE - 1) == SIZE - 1


def test_seek_at_the_end_of_a_full_file(swapfile: Swapfile) -> None:
    swapfile.write(0, data(SIZE))
    assert swapfile.seek_hole(0) == SIZE
    assert swapfile.seek_data(SIZE - 1) == SIZE - 1
    assert swapfile.seek_data(SIZE) is None
    assert swapfile.seek_hole(SIZE) is None


# -- refused and corrupt ---------------------------------------------------------------


def test_a_refused_page_and_those_after_it_are_holes_and_those_before_it_are_stored(
    swapfile: Swapfile, cache: FrontedCache
) -> None:
    swapfile.write(0, data(4 * PAGE_SIZE))
    cache.encoder.non_same_filled_pages_enabled = False
    with pytest.raises(StoreRefused):
        swapfile.write(0, memoryview(pages.ZERO + bytes(data(2 * PAGE_SIZE, 9))))
    assert [bool(cache.slots.get(page)) for page in page_range(0, 4)] == [True, False, False, True]
    assert swapfile.read(0, 4 * PAGE_SIZE) == (
        bytes(3 * PAGE_SIZE) + bytes(data(4 * PAGE_SIZE)[3 * PAGE_SIZE :])
    )


def test_a_refused_partial_write_is_a_hole(swapfile: Swapfile, cache: FrontedCache) -> None:
    swapfile.write(0, data(PAGE_SIZE))
    cache.encoder.non_same_filled_pages_enabled = False
    with pytest.raises(StoreRefused):
        swapfile.write(10, data(10))
    assert swapfile.seek_data(0) is None


def test_a_corrupt_page_spoils_reads_and_partial_writes_but_not_whole_ones(
    memory: SharedMemory,
) -> None:
    device = Device(memory.attach())
    swapfile, words = device.swapfile, device.cache.slots.words
    swapfile.write(0, data(3 * PAGE_SIZE))
    words[1] ^= 1 << 20
    for attempt in (
        lambda: swapfile.read(0, 3 * PAGE_SIZE),
        lambda: swapfile.write(PAGE_SIZE + 1, data(1)),
        lambda: swapfile.punch(PAGE_SIZE + 1, 1),
    ):
        with pytest.raises(CorruptData):
            attempt()
    assert swapfile.read(0, PAGE_SIZE) == data(PAGE_SIZE)
    swapfile.write(PAGE_SIZE, data(PAGE_SIZE, 7))
    assert swapfile.read(PAGE_SIZE, PAGE_SIZE) == data(PAGE_SIZE, 7)


# -- against a bytearray ---------------------------------------------------------------

edges = st.sampled_from([0, 1, 511, 4095, 4096, 4097, 8192])
offsets = st.builds(lambda page, off: page * PAGE_SIZE + off, st.integers(0, 5), edges)
steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "punch", "read"]),
        offsets,
        edges | st.integers(0, 4 * PAGE_SIZE),
    ),
    min_size=1,
    max_size=12,
)


@given(steps, st.booleans())
@settings(max_examples=scaled(100), deadline=None)
def test_it_is_a_file_of_bytes(steps: list[tuple[str, int, int]], at_the_end: bool) -> None:
    memory = SharedMemory()
    swapfile = Device(memory.attach()).swapfile
    base = SIZE - 7 * PAGE_SIZE if at_the_end else 0
    model = bytearray(7 * PAGE_SIZE)  # whichever seven pages are looked at
    for number, (what, offset, length) in enumerate(steps):
        length = min(length, len(model) - offset)
        if what == "write":
            swapfile.write(base + offset, piece := data(length, number))
            model[offset : offset + length] = piece
        elif what == "punch":
            swapfile.punch(base + offset, length)
            model[offset : offset + length] = bytes(length)
        else:
            assert swapfile.read(base + offset, length) == model[offset : offset + length]
    assert swapfile.read(base, len(model)) == model
    assert not any(swapfile.read(0 if base else len(model), SIZE - len(model)))
    memory.close()
