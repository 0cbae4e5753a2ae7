"""The shared state: geometry, header, and layouts that are refused."""

from __future__ import annotations

import struct

import pytest

from fuseswap.cache.segments import OBJECT_OVERHEAD
from fuseswap.cache.state import (
    LAYOUT_VERSION,
    MAX_SEGMENTS,
    SEGMENT_BYTES,
    FuseSession,
    Geometry,
    SharedState,
)
from fuseswap.errors import InvalidArgument, StateMismatch
from fuseswap.units import GIB, MIB, PAGE_SIZE
from tests.stores import SMALL, SharedMemory


def contents(memory: SharedMemory) -> dict[str, bytes]:
    return {name: bytes(region.buffer) for name, region in memory.regions().items()}


def test_a_later_process_reads_the_geometry(memory: SharedMemory) -> None:
    assert memory.attach().geometry == SMALL


def test_the_fuse_session_is_kept_for_the_next_worker(memory: SharedMemory) -> None:
    first = memory.attach()
    assert first.session is None
    first.session = FuseSession(7, 44, 1 << 63 | 5, MIB, 256)
    assert memory.attach().session == FuseSession(7, 44, 1 << 63 | 5, MIB, 256)
    assert memory.attach().geometry == SMALL


@pytest.mark.parametrize(
    ("at", "layout", "value"), [(8, "<I", LAYOUT_VERSION + 1), (8, "<I", 0), (0, "<Q", 0)]
)
def test_an_unknown_layout_is_refused_and_untouched(
    memory: SharedMemory, at: int, layout: str, value: int
) -> None:
    memory.attach_cache().store(0, bytes(range(256)) * 16)
    struct.pack_into(layout, memory.regions()["header"].buffer, at, value)
    before = contents(memory)
    with pytest.raises(StateMismatch, match="nothing was touched"):
        memory.attach()
    assert contents(memory) == before


@pytest.mark.parametrize("name", ["slots", "segments", "arena"])
def test_a_region_that_is_too_small_is_refused(memory: SharedMemory, name: str) -> None:
    regions = memory.regions()
    regions[name] = regions["header"]  # 4 KiB
    if name == "segments":
        header = regions["header"].buffer
        struct.pack_into("<Q", header, 24, PAGE_SIZE // 32 + 1)
    with pytest.raises(StateMismatch, match=f"'{name}' is smaller"):
        SharedState(regions)


@pytest.mark.parametrize("size_bytes", [MIB, 5 * MIB, GIB, 1024 * GIB])
def test_there_are_frames_for_every_page_stored_raw(size_bytes: int) -> None:
    geometry = Geometry.for_size(size_bytes, memory_bytes=4096 * GIB)
    raw_in_a_frame = SEGMENT_BYTES // (PAGE_SIZE + OBJECT_OVERHEAD)
    assert geometry.page_count == size_bytes // PAGE_SIZE
    assert geometry.frame_count * raw_in_a_frame >= geometry.page_count
    assert geometry.segment_count > geometry.frame_count  # segment 0 is reserved


def test_there_are_never_more_frames_than_memory() -> None:
    assert Geometry.for_size(1024 * GIB, 2 * GIB).frame_count == 2048
    assert Geometry.for_size(1024 * GIB, MIB).frame_count == 16


def test_segments_on_a_tier_count_and_ids_stay_24_bits() -> None:
    assert Geometry.for_size(GIB, GIB, extent_count=1000).segment_count == 1024 + 1001
    assert Geometry.for_size(GIB, GIB, extent_count=1 << 30).segment_count == MAX_SEGMENTS


def test_close_unmaps_once_no_one_looks(memory: SharedMemory) -> None:
    state = memory.attach()
    view = state.arena.buffer[:10]
    with pytest.raises(BufferError):
        state.close()
    view.release()


def test_parameters_are_kept_for_the_next_worker(memory: SharedMemory) -> None:
    for value in ("1", "22", "333"):
        memory.attach().parameters = {"pool_limit_bytes": value}
        assert memory.attach().parameters == {"pool_limit_bytes": value}


def test_parameters_that_do_not_fit_change_nothing(memory: SharedMemory) -> None:
    state = memory.attach()
    for most in ({"a": "b" * 1500}, {"c": "d" * 1500}):
        state.parameters = most
        before = contents(memory)
        with pytest.raises(InvalidArgument, match="do not fit"):
            state.parameters = {"a": "b" * 2000}
        assert contents(memory) == before
        assert memory.attach().parameters == most


def test_parameters_that_are_corrupt_are_none(memory: SharedMemory) -> None:
    state = memory.attach()
    state.parameters = {"compressor": "zstd:1"}
    state.header.buffer[1024 + 8] ^= 0x80  # the brace they begin with
    assert memory.attach().parameters == {}
