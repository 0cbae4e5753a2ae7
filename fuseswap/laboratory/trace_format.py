"""The file of a trace, version 1: ``docs/traces.md`` has it byte by byte.

    header    b"FSWTRACE", version, length of the JSON, the JSON, CRC-32
    blocks    b"TBLK", events, compressed bytes, CRC-32, time, dropped; the columns, by zstd
    end       b"TEND", the same fields; JSON that says why it ended

An event has 20 bytes, in columns, since a column of times compresses and a row does not.  A file
without an end was cut off: what stands before that is good.  All that is read is bounded before
memory is taken for it, and anything else is `TraceDamaged`.
"""

from __future__ import annotations

import json
import struct
import zlib
from array import array
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import zstandard

from fuseswap.errors import FuseswapError
from fuseswap.frontswap.trace_ring import KIND_SHIFT, NOTE, PAGE_MASK, TIME_MASK, TIME_SHIFT

VERSION = 1
MAGIC = b"FSWTRACE"
MAX_BLOCK_EVENTS = 1 << 16
FILE_EVENT_BYTES = 20
_MAX_JSON = 1 << 16
_HEADER = struct.Struct("<8sHHI")
_BLOCK = struct.Struct("<4sIIIQQ")
_BLOCK_MAGIC, _END_MAGIC = b"TBLK", b"TEND"
_LEVEL = 3

# Classes of contents and answers: the low bits of an event's class.
HOLE, COMPRESSED, SAME_FILLED, INCOMPRESSIBLE, FOREIGN, REFUSED, CORRUPT = range(7)
CLASS_NAMES = (
    "hole", "compressed", "same-filled", "incompressible", "backend", "refused", "corrupt",
)  # fmt: skip


class TraceDamaged(FuseswapError):
    """It is no trace, one of another version, or its bytes are not what was written."""


class Event(NamedTuple):
    """One of a trace.  ``time_ns`` counts from its first event.

    ``number``: of a store the hash; of a load the tier and one, or 0; of a discard the pages.
    """

    time_ns: int
    kind: int
    page: int
    number: int
    size: int
    kind_of_contents: int
    codec: int


class Columns(NamedTuple):
    """A block: as many of each.  ``times``: units of 1024 ns, their low 32 bits."""

    times: array[int]
    pages: array[int]  # with the kind in the two bits on top
    numbers: array[int]
    sizes: array[int]
    classes: array[int]
    codecs: array[int]

    @classmethod
    def empty(cls) -> Columns:
        """To be added to."""
        return cls(*(array(code) for code in "IIQHBB"))

    def add(self, more: Columns) -> None:
        """Those of ``more`` behind those that there are."""
        for mine, others in zip(self, more, strict=True):
            mine.extend(others)


class TraceWriter:
    """Writes a trace to ``file``; `written_bytes` so far."""

    def __init__(self, file: BinaryIO, about: dict[str, Any]) -> None:
        self._file = file
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        text = json.dumps(about, sort_keys=True).encode()
        head = _HEADER.pack(MAGIC, VERSION, 0, len(text)) + text
        self.written_bytes = 0
        self.events = 0
        self._write(head + zlib.crc32(head).to_bytes(4, "little"))

    def block(self, columns: Columns, start_ns: int, dropped: int) -> None:
        """At most `MAX_BLOCK_EVENTS`, the first at ``start_ns``; ``dropped`` so far."""
        count = len(columns.times)
        if not count:
            return
        raw = b"".join(column.tobytes() for column in columns)
        self._write_block(_BLOCK_MAGIC, count, self._compressor.compress(raw), start_ns, dropped)
        self.events += count

    def end(self, reason: str, dropped: int) -> None:
        """Nothing follows."""
        text = json.dumps({"reason": reason, "events": self.events, "dropped": dropped}).encode()
        self._write_block(_END_MAGIC, 0, text, 0, dropped)
        self._file.flush()

    def _write_block(
        self, magic: bytes, count: int, content: bytes, start_ns: int, dropped: int
    ) -> None:
        check = _check(magic, count, content, start_ns, dropped)
        head = _BLOCK.pack(magic, count, len(content), check, start_ns, dropped)
        self._write(head + content)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.written_bytes += len(data)


class TraceReader:
    """Reads one from ``file``.  Raises `TraceDamaged`, from `events` too."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = zstandard.ZstdDecompressor()
        self.about = self._read_header()
        self.dropped = 0
        self.reason: str | None = None  # why it ended; None: it was cut off, or is not read yet
        self._first_ns: int | None = None

    def _read_header(self) -> dict[str, Any]:
        head = self._file.read(_HEADER.size)
        if len(head) < _HEADER.size or head[:8] != MAGIC:
            raise TraceDamaged("this is no trace")
        _, version, _, length = _HEADER.unpack(head)
        if version != VERSION:
            raise TraceDamaged(f"a trace of version {version}; this fuseswap reads {VERSION}")
        if length > _MAX_JSON:
            raise TraceDamaged("its header is damaged")
        rest = self._file.read(length + 4)
        if len(rest) < length + 4 or zlib.crc32(head + rest[:length]) != _u32(rest[length:]):
            raise TraceDamaged("its header is damaged")
        return _object(rest[:length])

    def blocks(self) -> Iterator[tuple[int, Columns]]:
        """Of each the time of its first event, from that of the first block, in ns."""
        while True:
            head = self._file.read(_BLOCK.size)
            if len(head) < _BLOCK.size:
                return
            magic, count, length, check, start_ns, dropped = _BLOCK.unpack(head)
            is_end = magic == _END_MAGIC
            most = _MAX_JSON if is_end else MAX_BLOCK_EVENTS * FILE_EVENT_BYTES + _MAX_JSON
            if magic not in (_BLOCK_MAGIC, _END_MAGIC) or length > most:
                raise TraceDamaged("a block of it is damaged")
            packed = self._file.read(length)
            if len(packed) < length:
                return
            if _check(magic, count, packed, start_ns, dropped) != check:
                raise TraceDamaged("a block of it is damaged")
            self.dropped = dropped
            if is_end:
                self.reason = str(_object(packed).get("reason"))
                return
            columns = self._unpack(count, packed)
            if self._first_ns is None:
                self._first_ns = start_ns
            yield start_ns - self._first_ns, columns

    def _unpack(self, count: int, packed: bytes) -> Columns:
        if not 0 < count <= MAX_BLOCK_EVENTS:
            raise TraceDamaged(f"a block of it claims {count} events")
        wanted = count * FILE_EVENT_BYTES
        try:
            if zstandard.get_frame_parameters(packed).content_size != wanted:
                raise TraceDamaged("a block of it has another size than it says")
            raw = self._decompressor.decompress(packed, max_output_size=wanted)
        except zstandard.ZstdError as exc:
            raise TraceDamaged(f"a block of it is damaged: {exc}") from exc
        if len(raw) != wanted:
            raise TraceDamaged("a block of it has another size than it says")
        columns, at = Columns.empty(), 0
        for column in columns:
            length = count * column.itemsize
            column.frombytes(raw[at : at + length])
            at += length
        return columns

    def events(self) -> Iterator[Event]:
        """All, in order, but for notes of the time."""
        for start_ns, columns in self.blocks():
            before, now = columns.times[0], start_ns
            for when, page, number, size, contents, codec in zip(*columns, strict=True):
                now += (when - before & TIME_MASK) << TIME_SHIFT
                before = when
                kind = page >> KIND_SHIFT
                if kind != NOTE:
                    yield Event(now, kind, page & PAGE_MASK, number, size, contents, codec)


def _check(magic: bytes, count: int, content: bytes, start_ns: int, dropped: int) -> int:
    """CRC-32 of the header of a block, without this, and of its content."""
    head = _BLOCK.pack(magic, count, len(content), 0, start_ns, dropped)
    return zlib.crc32(content, zlib.crc32(head))


def _u32(data: bytes) -> int:
    return int.from_bytes(data[:4], "little")


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as exc:
        raise TraceDamaged("its JSON is damaged") from exc
    if not isinstance(found, dict):
        raise TraceDamaged("its JSON is damaged")
    return found
