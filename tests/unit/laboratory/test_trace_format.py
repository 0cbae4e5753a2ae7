"""The file of a trace: what was written is read, and what is damaged is said to be."""

from __future__ import annotations

import io
import random
import zlib
from array import array

import pytest
import zstandard

from fuseswap.frontswap.trace_ring import KIND_SHIFT, LOAD, NOTE, STORE
from fuseswap.laboratory.trace_format import (
    COMPRESSED,
    FILE_EVENT_BYTES,
    MAX_BLOCK_EVENTS,
    Columns,
    Event,
    TraceDamaged,
    TraceReader,
    TraceWriter,
)
from tests.support.effort import scaled


def written(blocks: int = 3, count: int = 50, *, end: bool = True) -> bytes:
    file = io.BytesIO()
    writer = TraceWriter(file, {"page_count": 100})
    for block in range(blocks):
        columns = Columns.empty()
        for at in range(count):
            kind = STORE if at % 2 else LOAD
            row = (at * 5, at | kind << KIND_SHIFT, at * 7919, at % 4096, COMPRESSED, 4)
            for column, value in zip(columns, row, strict=True):
                column.append(value)
        writer.block(columns, 1_000_000_000 * (block + 7), 3)
    if end:
        writer.end("stopped", 3)
    return file.getvalue()


def read(data: bytes) -> tuple[list[Event], TraceReader]:
    reader = TraceReader(io.BytesIO(data))
    return list(reader.events()), reader


def test_what_was_written_is_read() -> None:
    events, reader = read(written())
    assert len(events) == 150
    assert events[0].time_ns == 0
    assert events[50].time_ns == 1_000_000_000
    assert events[1] == Event(5 << 10, STORE, 1, 7919, 1, COMPRESSED, 4)
    assert (reader.reason, reader.dropped) == ("stopped", 3)
    assert reader.about == {"page_count": 100}


def test_an_event_has_20_bytes() -> None:
    assert sum(column.itemsize for column in Columns.empty()) == FILE_EVENT_BYTES <= 24


def test_notes_are_no_events() -> None:
    file = io.BytesIO()
    row = (array("I", [0, 1]), array("I", [NOTE << KIND_SHIFT, 5]), array("Q", [0, 0]))
    rest = (array("H", [0, 0]), array("B", [0, 0]), array("B", [0, 0]))
    TraceWriter(file, {}).block(Columns(*row, *rest), 0, 0)
    events, _ = read(file.getvalue())
    assert [event.page for event in events] == [5]


@pytest.mark.parametrize("left", [1, 60, 400])
def test_a_file_that_was_cut_off_is_good_up_to_there(left: int) -> None:
    data = written(end=False)
    events, reader = read(data[:-left])
    assert events == read(data)[0][: len(events)]
    assert len(events) % 50 == 0
    assert reader.reason is None


def test_another_version_and_no_trace_are_refused_in_words() -> None:
    data = bytearray(written())
    data[8] = 2
    with pytest.raises(TraceDamaged, match="version 2"):
        read(bytes(data))
    for other in (b"", b"FSW", b"x" * 100):
        with pytest.raises(TraceDamaged, match="no trace"):
            read(other)


def forged(count: int, packed: bytes) -> bytes:
    """A block whose check is right, and whose claims may not be."""
    start = b"TBLK" + count.to_bytes(4, "little") + len(packed).to_bytes(4, "little")
    check = zlib.crc32(packed, zlib.crc32(start + bytes(20)))
    return written(0, end=False) + start + check.to_bytes(4, "little") + bytes(16) + packed


@pytest.mark.parametrize("count", [0, 1, 11, MAX_BLOCK_EVENTS + 1, 0xFFFFFFFF])
def test_a_block_that_claims_more_than_it_has_takes_no_memory(count: int) -> None:
    packed = zstandard.ZstdCompressor().compress(bytes(10 * FILE_EVENT_BYTES))
    with pytest.raises(TraceDamaged):
        read(forged(count, packed))


def test_a_frame_that_does_not_say_its_size_is_refused() -> None:
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 24))
    with pytest.raises(TraceDamaged):
        read(forged(10, packed))


def test_any_damage_is_an_error_or_a_cut() -> None:
    data = written()
    whole = read(data)[0]
    chance = random.Random(4)
    for _ in range(scaled(3000)):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 1, 8))):
            damaged[chance.randrange(len(data))] = chance.randrange(256)
        try:
            events, _ = read(bytes(damaged))
        except TraceDamaged:
            continue
        assert events == whole[: len(events)]
