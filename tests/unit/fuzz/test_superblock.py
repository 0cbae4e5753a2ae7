"""A header in any state, records with a right check among them: an error, or values of their type.

The check has no key, so a record may be sound and its content wrong.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseswap.codecs.codec import REGISTERED
from fuseswap.errors import FuseswapError
from fuseswap.store.checked_record import CHECK_BYTES, sealed
from fuseswap.store.superblock import FuseSession, SharedState
from fuseswap.units import MIB, PAGE_SIZE
from tests.support.fuzzed import bounded, bytes_like, json_like, tries
from tests.support.memory_stores import SharedMemory

# Where each record is, and how many bytes it has.
RECORDS = {0: 40, 64: 32, 256: 24, 528: 8, 576: 380, 1024: 1532, 2564: 1500}


@pytest.fixture(scope="module")
def shared() -> Iterator[SharedMemory]:
    logging.disable()
    memory = SharedMemory()
    state = memory.attach()
    state.session = FuseSession(7, 44, 1 << 63 | 5, MIB, 256)
    state.parameters = {"compressor": "zstd:1"}
    state.keep_codec_name(9, "nine")
    state.keep_tier_names({0: "backing_file", 7: "far"})
    yield memory
    memory.close()
    logging.disable(logging.NOTSET)


def read_all(state: SharedState) -> None:
    for name, value in state.parameters.items():
        assert isinstance(name, str)
        assert isinstance(value, str)
    for names in (state.codec_names, state.tier_names):
        for number, text in names.items():
            assert isinstance(number, int)
            assert isinstance(text, str)
    assert state.peak_bytes >= 0
    assert len(state.key) == 32
    state.repair()


def attempt(memory: SharedMemory, put: dict[int, bytes]) -> None:
    """Attach to the header with ``put`` in it, and leave it as it was."""
    regions = memory.regions()
    header = regions["header"].buffer
    before = bytes(header)
    for at, data in put.items():
        header[at : at + len(data)] = data[: len(header) - at]
    try:
        with bounded():
            read_all(SharedState(regions))
    except FuseswapError:
        pass
    finally:
        header[:] = before


@tries(250)
@given(data=st.data())
def test_any_bytes_in_it_do_no_harm(shared: SharedMemory, data: st.DataObject) -> None:
    put: dict[int, bytes] = {}
    for at in data.draw(st.lists(st.sampled_from(sorted(RECORDS)), max_size=3)):
        some = data.draw(st.binary(max_size=64))
        put |= {copy + at + data.draw(st.integers(0, 60)): some for copy in (0, PAGE_SIZE)}
    attempt(shared, put)


@tries(400)
@given(at=st.sampled_from(sorted(RECORDS)), data=st.data())
def test_a_record_may_be_sound_and_wrong(
    shared: SharedMemory, at: int, data: st.DataObject
) -> None:
    text = json.dumps({"7": "far"}).encode()
    some = data.draw(bytes_like(text) | json_like().map(lambda one: json.dumps(one).encode()))
    record = sealed(some[: RECORDS[at]].ljust(RECORDS[at], b"\0"))
    attempt(shared, {at: record, PAGE_SIZE + at: record})


@pytest.mark.parametrize("text", [b"[", b"\xff", b"[1]", b'{"7": 1}', b'{"x": "y"}'])
def test_sound_names_that_are_none_are_as_damaged_ones(shared: SharedMemory, text: bytes) -> None:
    regions = shared.regions()
    header = regions["header"].buffer
    before = bytes(header)
    try:
        for at in (576, 2564, 576 + PAGE_SIZE, 2564 + PAGE_SIZE):
            size = RECORDS[at % PAGE_SIZE]
            header[at : at + size + CHECK_BYTES] = sealed(text.ljust(size, b"\0"))
        state = SharedState(regions)
        assert state.codec_names == dict.fromkeys(REGISTERED, "")
        assert state.tier_names == {}
    finally:
        header[:] = before
