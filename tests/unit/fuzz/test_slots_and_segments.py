"""Slot words, entries of segments and segments in any state, under a worker that comes next.

A load gives a page that was stored there, a hole where the word is 0, or an error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseswap.errors import CorruptData
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.fuzzed import bounded, tries
from tests.support.memory_stores import SharedMemory

PAGES = 40
STORED = {
    page: (pages.compressible, pages.incompressible, pages.filled)[page % 3](page)
    for page in range(PAGES)
}
WORD_BYTES, ENTRY_BYTES = 8, 32


@pytest.fixture(scope="module")
def shared() -> Iterator[SharedMemory]:
    logging.disable()
    memory = SharedMemory()
    cache = memory.attach_cache()
    for page, data in STORED.items():
        cache.store(page, data)
    yield memory
    memory.close()
    logging.disable(logging.NOTSET)


@st.composite
def damage(draw: st.DrawFn) -> dict[tuple[str, int], bytes]:
    """Bytes by region and place; of words up to two bits, which their check finds for sure."""
    found: dict[tuple[str, int], bytes] = {}
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(("slots", "segments", "arena")))
        if name == "arena":
            found[name, draw(st.integers(0, 60_000))] = draw(st.binary(min_size=1, max_size=64))
        else:
            size = WORD_BYTES if name == "slots" else ENTRY_BYTES
            place = draw(st.integers(0, PAGES - 1 if name == "slots" else 4))
            bits = draw(st.sets(st.integers(0, 63), min_size=1, max_size=2))
            mask = sum(1 << bit for bit in bits)
            found[name, place * size] = mask.to_bytes(WORD_BYTES, "little")
    return found


@contextmanager
def changed_memory(
    memory: SharedMemory, changes: dict[tuple[str, int], bytes], *, turn_over: bool
) -> Iterator[None]:
    """With the bytes of ``changes``, or with those bits turned over, until it is left."""
    regions = memory.regions()
    before = {name: bytes(regions[name].buffer[:65536]) for name in ("slots", "segments", "arena")}
    try:
        for (name, at), some in changes.items():
            buffer = regions[name].buffer
            for place, value in enumerate(some[: len(buffer) - at], at):
                is_mask = turn_over and name != "arena"
                buffer[place] = buffer[place] ^ value if is_mask else value
        yield
    finally:
        for name, content in before.items():
            regions[name].buffer[: len(content)] = content


@tries(300)
@given(changes=damage())
def test_no_page_is_served_that_was_not_stored(
    shared: SharedMemory, changes: dict[tuple[str, int], bytes]
) -> None:
    with changed_memory(shared, changes, turn_over=True):
        cache = shared.attach_cache()
        for page, data in STORED.items():
            try:
                found = cache.load(page)
            except CorruptData:
                continue
            assert found == data, page


@tries(300)
@given(
    changes=st.dictionaries(
        st.tuples(st.sampled_from(("slots", "segments")), st.integers(0, 320)),
        st.binary(min_size=1, max_size=64),
        min_size=1,
        max_size=3,
    )
)
def test_any_bytes_end_in_pages_or_errors(
    shared: SharedMemory, changes: dict[tuple[str, int], bytes]
) -> None:
    """One word of 213 has a right check by chance: a page of another is possible, no crash."""
    with changed_memory(shared, changes, turn_over=False), bounded():
        cache = shared.attach_cache()
        for page in STORED:
            try:
                found = cache.load(page)
            except CorruptData:
                continue
            assert found is None or len(found) == PAGE_SIZE
        for page in STORED:
            cache.invalidate_page(page)
            assert cache.load(page) is None
