"""The shared state: geometry, header, and layouts that are refused."""

from __future__ import annotations

import os
import random
import struct
from dataclasses import replace

import pytest

from fuseswap.codecs.codec import MAX_NAME_BYTES, REGISTERED
from fuseswap.errors import InvalidArgument, StateMismatch
from fuseswap.store.checked_record import CHECK_BYTES, sealed
from fuseswap.store.geometry import Geometry
from fuseswap.store.object_size import footprint
from fuseswap.store.region import Region
from fuseswap.store.superblock import KEY_BYTES, LAYOUT_VERSION, FuseSession, SharedState
from fuseswap.units import GIB, MAX_SEGMENTS, MIB, PAGE_SIZE, SEGMENT_BYTES
from tests.support.effort import some_of
from tests.support.memory_stores import SMALL, SharedMemory

GEOMETRY_BYTES = 40
CODECS = {9: "one", 12: "twelve", 15: "x" * MAX_NAME_BYTES}
TIERS = {0: "backing_file", 7: "far", 255: "x" * 31}
COPIES_AT = (0, PAGE_SIZE)
# Records, and the parameters that `fill_header` sets; between them nothing is read.
_USED_BYTES = (
    (0, 44),
    (64, 100),
    (256, 284),
    (528, 540),
    (576, 660),
    (956, 964),
    (1024, 1100),
    (2552, 2650),
    (4060, 4068),
)
USED_BITS = [
    8 * copy + bit
    for copy in COPIES_AT
    for first, end in _USED_BYTES
    for bit in range(8 * first, 8 * end)
]


def contents(memory: SharedMemory) -> dict[str, dict[int, bytes]]:
    """All bytes that take memory, by region and offset."""
    return {
        name: {start: region.map[start:end] for start, end in region.extents()}
        for name, region in memory.regions().items()
    }


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
    """One that has a check as ours."""
    memory.attach_cache().store(0, bytes(range(256)) * 16)
    data = bytearray(memory.regions()["header"].buffer[:GEOMETRY_BYTES])
    struct.pack_into(layout, data, at, value)
    memory.regions()["header"].buffer[: GEOMETRY_BYTES + CHECK_BYTES] = sealed(bytes(data))
    before = contents(memory)
    with pytest.raises(StateMismatch, match="nothing was touched"):
        memory.attach()
    assert contents(memory) == before


@pytest.mark.parametrize("version", [1, 4, 5])
def test_an_older_layout_is_refused_with_what_to_do(memory: SharedMemory, version: int) -> None:
    data = bytearray(memory.regions()["header"].buffer[:GEOMETRY_BYTES])
    struct.pack_into("<I", data, 8, version)
    memory.regions()["header"].buffer[: GEOMETRY_BYTES + CHECK_BYTES] = sealed(bytes(data))
    before = contents(memory)
    wanted = f"layout {version}, .*run `fuseswap down` with that version first; nothing was touched"
    with pytest.raises(StateMismatch, match=wanted):
        memory.attach()
    assert contents(memory) == before


def test_a_layout_without_a_check_is_refused(memory: SharedMemory) -> None:
    """As layout 3: the same fields, and zeros behind them."""
    header = memory.regions()["header"].buffer
    struct.pack_into("<I", header, 8, 3)
    header[GEOMETRY_BYTES : GEOMETRY_BYTES + CHECK_BYTES] = bytes(CHECK_BYTES)
    header[PAGE_SIZE : 2 * PAGE_SIZE] = header[:PAGE_SIZE]
    with pytest.raises(StateMismatch, match="run `fuseswap down` with that version"):
        memory.attach()


def small_region() -> Region:
    """One of 8 KiB."""
    fd = os.memfd_create("small")
    os.ftruncate(fd, 2 * PAGE_SIZE)
    try:
        return Region(fd)
    finally:
        os.close(fd)


def test_a_header_without_room_for_times_is_served(memory: SharedMemory) -> None:
    """As an older fuseswap made it: then they end with the worker."""
    regions = {**memory.regions(), "header": small_region()}
    first = SharedState.create(regions, SMALL)
    times = first.latency(0, "load memory")
    times.add(5000)
    assert sum(times.counts()) == 1
    assert sum(SharedState(regions).latency(0, "load memory").counts()) == 0


@pytest.mark.parametrize("name", ["slots", "segments", "arena"])
def test_a_region_that_is_too_small_is_refused(memory: SharedMemory, name: str) -> None:
    regions = memory.regions()
    regions[name] = small_region()
    more = 2 * PAGE_SIZE // 32 + 1 if name == "segments" else SMALL.segment_count
    with pytest.raises(StateMismatch, match=f"'{name}' is smaller"):
        SharedState.create(regions, replace(SMALL, segment_count=more))


@pytest.mark.parametrize("size_bytes", [MIB, 5 * MIB, GIB, 1024 * GIB])
def test_there_are_frames_for_every_page_stored_raw(size_bytes: int) -> None:
    geometry = Geometry.for_size(size_bytes, memory_bytes=4096 * GIB)
    raw_in_a_frame = SEGMENT_BYTES // footprint(PAGE_SIZE)
    assert geometry.page_count == size_bytes // PAGE_SIZE
    assert geometry.frame_count * raw_in_a_frame >= geometry.page_count
    assert geometry.segment_count > geometry.frame_count  # segment 0 is reserved


def test_there_are_never_more_frames_than_memory() -> None:
    assert Geometry.for_size(1024 * GIB, 2 * GIB).frame_count == 2048
    assert Geometry.for_size(1024 * GIB, MIB).frame_count == 16


def test_segments_on_a_tier_count_and_ids_stay_21_bits() -> None:
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
    for copy in COPIES_AT:
        state.header.buffer[copy + 1024] ^= 1  # the brace they begin with
    assert memory.attach().parameters == {}
    state.parameters = {"compressor": "lz4"}
    assert memory.attach().parameters == {"compressor": "lz4"}


def header_of(memory: SharedMemory) -> tuple[object, ...]:
    """All that a worker reads of it."""
    state = memory.attach()
    names = state.codec_names, state.tier_names
    return state.geometry, state.session, state.parameters, state.peak_bytes, state.key, *names


def fill_header(memory: SharedMemory) -> SharedState:
    state = memory.attach()
    state.session = FuseSession(7, 44, 1 << 63 | 5, MIB, 256)
    state.parameters = {"compressor": "zstd:1", "pool_limit_bytes": "16777216"}
    state.peak_bytes = 123456789
    for number, name in CODECS.items():
        state.keep_codec_name(number, name)
    state.keep_tier_names(TIERS)
    return state


@pytest.mark.parametrize("filled", [False, True])
def test_any_bit_that_turns_over_does_no_harm(memory: SharedMemory, filled: bool) -> None:
    if filled:
        fill_header(memory)
    before, header = header_of(memory), memory.regions()["header"].buffer
    for bit in some_of(USED_BITS):
        header[bit // 8] ^= 1 << bit % 8
        assert header_of(memory) == before, bit
        header[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("copy", COPIES_AT)
def test_a_whole_copy_may_be_damaged(memory: SharedMemory, copy: int) -> None:
    fill_header(memory)
    before, header = header_of(memory), memory.regions()["header"].buffer
    header[copy : copy + PAGE_SIZE] = random.Random(copy).randbytes(PAGE_SIZE)
    assert header_of(memory) == before


def test_a_damaged_copy_is_written_anew(memory: SharedMemory) -> None:
    """Then the next damage may be in the other one."""
    fill_header(memory)
    before, header = header_of(memory), memory.regions()["header"].buffer
    sound = bytes(header)
    for at in (17, 70, 270, 530, 590, 1030, 2500, 2570):
        for copy in (*COPIES_AT, *COPIES_AT):
            header[copy + at] ^= 3
            memory.attach().repair()
            assert header_of(memory) == before
            assert bytes(header) == sound


def test_a_writer_that_dies_leaves_the_old_values_or_the_new(memory: SharedMemory) -> None:
    state = fill_header(memory)
    header = memory.regions()["header"].buffer
    old, old_bytes = state.parameters, bytes(header)
    new = {"compressor": "lz4", "dedup": "off"}
    state.parameters = new
    new_bytes = bytes(header)
    changed = [at for at, (a, b) in enumerate(zip(old_bytes, new_bytes, strict=True)) if a != b]
    last_of_first = max(at for at in changed if at < PAGE_SIZE)
    for done in range(len(changed) + 1):
        header[:] = old_bytes
        for at in changed[:done]:
            header[at] = new_bytes[at]
        whole = not done or changed[done - 1] < last_of_first
        assert memory.attach().parameters == (old if whole else new), done
        memory.attach().repair()
        assert bytes(header) == (old_bytes if whole else new_bytes)


@pytest.mark.parametrize(
    ("first", "end", "says"),
    [(0, 44, "nothing was touched"), (256, 284, "what INIT settled is damaged")],
)
def test_damage_in_both_copies_is_refused_and_nothing_is_touched(
    memory: SharedMemory, first: int, end: int, says: str
) -> None:
    fill_header(memory)
    header, chance = memory.regions()["header"].buffer, random.Random(1)
    for _ in range(500):
        bits = [8 * copy + chance.randrange(8 * first, 8 * end) for copy in COPIES_AT]
        for bit in bits:
            header[bit // 8] ^= 1 << bit % 8
        before = bytes(header)
        with pytest.raises(StateMismatch, match=says):
            memory.attach()
        assert bytes(header) == before, bits
        for bit in bits:
            header[bit // 8] ^= 1 << bit % 8


def test_a_peak_that_is_damaged_is_counted_anew(memory: SharedMemory) -> None:
    state = fill_header(memory)
    for copy in COPIES_AT:
        state.header.buffer[copy + 530] ^= 3
    assert memory.attach().peak_bytes == 0


# -- the key -------------------------------------------------------------------------------


def test_a_key_is_made_once_and_only_of_this_device(memory: SharedMemory) -> None:
    key = memory.attach().key
    assert len(key) == KEY_BYTES
    memory.attach().repair()
    assert memory.attach().key == key
    other = SharedMemory()
    assert other.attach().key != key
    other.close()


def test_the_key_is_in_the_header_alone_twice(memory: SharedMemory) -> None:
    key = memory.attach().key
    found = {
        name: sum(data.count(key) for data in runs.values())
        for name, runs in contents(memory).items()
    }
    assert found.pop("header") == 2
    assert not any(found.values())


@pytest.mark.parametrize("zeros", [False, True])
def test_a_key_that_is_damaged_in_both_copies_is_no_key(memory: SharedMemory, zeros: bool) -> None:
    """Nor are zeros, a record of which is sound; what is not encrypted goes on."""
    header = memory.regions()["header"].buffer
    for copy in COPIES_AT:
        if zeros:
            header[copy + 64 : copy + 100] = bytes(36)
        else:
            header[copy + 70] ^= 1
    memory.attach().repair()
    state = memory.attach()
    assert state.geometry == SMALL
    with pytest.raises(StateMismatch, match="the key is damaged"):
        _ = state.key


# -- names of codecs and tiers -------------------------------------------------------------


def test_names_are_kept_for_the_next_worker(memory: SharedMemory) -> None:
    assert memory.attach().codec_names == memory.attach().tier_names == {}
    fill_header(memory)
    state = memory.attach()
    assert (state.codec_names, state.tier_names) == (CODECS, TIERS)
    state.keep_codec_name(10, "ten")
    state.keep_tier_names({7: "far"})
    state = memory.attach()
    assert (state.codec_names, state.tier_names) == ({**CODECS, 10: "ten"}, {7: "far"})


def test_all_numbers_of_codecs_have_room_for_the_longest_name(memory: SharedMemory) -> None:
    state = memory.attach()
    for number in REGISTERED:
        state.keep_codec_name(number, "x" * MAX_NAME_BYTES)
    assert len(memory.attach().codec_names) == len(REGISTERED)


def test_where_both_copies_are_damaged_no_number_of_a_codec_is_free(memory: SharedMemory) -> None:
    fill_header(memory)
    for copy in COPIES_AT:
        memory.regions()["header"].buffer[copy + 590] ^= 3
    assert memory.attach().codec_names == dict.fromkeys(REGISTERED, "")


def test_where_both_copies_are_damaged_tiers_are_numbered_anew(
    memory: SharedMemory, caplog: pytest.LogCaptureFixture
) -> None:
    fill_header(memory)
    for copy in COPIES_AT:
        memory.regions()["header"].buffer[copy + 2570] ^= 3
    assert memory.attach().tier_names == {}
    assert "corrupt" in caplog.text


def test_too_many_names_are_refused_and_the_old_ones_stay(memory: SharedMemory) -> None:
    state = fill_header(memory)
    with pytest.raises(InvalidArgument, match="bytes of names"):
        state.keep_tier_names({number: f"tier-number-{number}" for number in range(100)})
    assert memory.attach().tier_names == TIERS
