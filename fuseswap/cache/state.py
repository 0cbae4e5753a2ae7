"""The shared state: what outlives the process.

Seven regions, created once by whoever holds them (the supervisor) and attached
to by each worker in turn:

    header    4 KiB   magic, layout version, geometry, negotiated FUSE values, progress, heartbeat,
                      parameters, names of codecs
    slots     8 bytes a swap page, one 4096-byte page a cluster (``slots.py``)
    segments  32 bytes a segment (``segments.py``)
    arena     1 MiB a frame, where segments in memory live
    journal   requests in flight, where the kernel can't resend (``transport/journal.py``)
    dictionaries  what pages were compressed with (``dictionaries.py``)
    index     where contents may be found a second time: hints, never trusted (``dedup.py``)

All are sparse: a 1 TiB swapfile has a 2 GiB slot region and takes none of it.
A header of another layout is refused and left as it is.  What a worker reads of it are
records (``records.py``): one bit that turned over is put right, and more of them in the
geometry or in what INIT settled keep the worker from attaching, with nothing touched.
Progress and heartbeat have no check: they are written again and again, and no page
depends on them.
"""

from __future__ import annotations

import json
import logging
import struct
from dataclasses import dataclass

from fuseswap.cache.records import CHECK_BYTES, check_of, is_sound, opened, sealed
from fuseswap.cache.region import Region
from fuseswap.cache.slot_word import MAX_SEGMENTS
from fuseswap.codecs.codec import MAX_NAME_BYTES, REGISTERED
from fuseswap.errors import InvalidArgument, StateMismatch
from fuseswap.units import PAGE_SHIFT, PAGE_SIZE

log = logging.getLogger(__name__)

MAGIC = 0x7061777365737566  # "fuseswap", little endian
LAYOUT_VERSION = 5
_OLDER_VERSIONS = range(1, LAYOUT_VERSION)

CLUSTER_PAGES = 512
SEGMENT_SHIFT = 20
SEGMENT_BYTES = 1 << SEGMENT_SHIFT
SEGMENT_ENTRY_BYTES = 32
DICTIONARY_PLACES = 8
DICTIONARY_PLACE_BYTES = 128 << 10
_INDEX_ENTRY_BYTES = 8
_MAX_INDEX_ENTRIES = 1 << 22

_HEADER = struct.Struct("<QIIQQQ")
_FUSE_AT = 256
PROGRESS_AT = 512  # read by the supervisor, which maps nothing else
HEARTBEAT_AT = 520  # the same
_PEAK_AT = 528
_PROGRESS = struct.Struct("<Q")
_CODECS_AT = 640  # a record each
_CODEC_BYTES = MAX_NAME_BYTES + CHECK_BYTES
_CODEC_CHECK = struct.Struct("<I")
# A word (check << 32 | place << 16 | length, in bytes) and two places to write to in turn.
_PARAMETERS_AT = 1024
_PARAMETERS_PLACES = (1032, 2564)
_PARAMETERS_BYTES = 1532
_PARAMETERS = struct.Struct("<Q")
_PLACE = struct.Struct("<HH")  # place and length; the check is of these and the text
_FUSE = struct.Struct("<IIQII")

REGION_NAMES = ("header", "slots", "segments", "arena", "journal", "dictionaries", "index")

# The read buffer, and more requests that wait than the kernel has in flight for a loop
# device (256, max_background), so that discards are read meanwhile.  Address space only.
_JOURNAL_SLOTS = 321
_JOURNAL_BYTES = PAGE_SIZE + _JOURNAL_SLOTS * (SEGMENT_BYTES + PAGE_SIZE)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How large the regions are.  Segment 0 is reserved and never used."""

    page_count: int
    segment_count: int
    frame_count: int

    @classmethod
    def for_size(cls, size_bytes: int, memory_bytes: int, extent_count: int = 0) -> Geometry:
        """Geometry for a swapfile of ``size_bytes`` on a machine of ``memory_bytes`` of RAM.

        Frames are address space, not memory: enough for every page stored raw, but
        never more than the RAM there is.  ``extent_count`` adds segments that live on
        a tier.
        """
        page_count = size_bytes >> PAGE_SHIFT
        raw_frames = (size_bytes >> SEGMENT_SHIFT) * 258 // 256 + 16
        frame_count = max(16, min(raw_frames, memory_bytes >> SEGMENT_SHIFT))
        segment_count = min(frame_count + extent_count + 1, MAX_SEGMENTS)
        return cls(page_count, segment_count, frame_count)

    @property
    def index_entries(self) -> int:
        """The most entries the index of contents may have: a power of two."""
        wanted = 1 << (self.page_count - 1).bit_length()
        return max(CLUSTER_PAGES, min(wanted, _MAX_INDEX_ENTRIES))

    def region_bytes(self) -> dict[str, int]:
        """Size of each region in bytes, by name."""
        clusters = -(-self.page_count // CLUSTER_PAGES)
        entries = self.segment_count * SEGMENT_ENTRY_BYTES
        return {
            "header": PAGE_SIZE,
            "slots": clusters * PAGE_SIZE,
            "segments": -(-entries // PAGE_SIZE) * PAGE_SIZE,
            "arena": self.frame_count << SEGMENT_SHIFT,
            "journal": _JOURNAL_BYTES,
            "dictionaries": DICTIONARY_PLACES * DICTIONARY_PLACE_BYTES,
            "index": self.index_entries * _INDEX_ENTRY_BYTES,
        }


@dataclass(frozen=True, slots=True)
class FuseSession:
    """What INIT settled; it comes once a mount, so the next worker reads it here."""

    major: int
    minor: int
    flags: int
    max_write: int
    max_pages: int


class SharedState:
    """The seven regions with a checked header."""

    def __init__(self, regions: dict[str, Region]) -> None:
        """Attach, and write nothing.

        Raises `StateMismatch` for a header this version does not know, or one that is damaged.
        """
        header = regions["header"]
        known = _read(header, 0, _HEADER)
        magic, version, *_ = known or _HEADER.unpack_from(header.buffer)
        if magic != MAGIC or version != LAYOUT_VERSION:
            if magic == MAGIC and version in _OLDER_VERSIONS:
                raise StateMismatch(
                    f"shared state has layout {version}, of an older fuseswap: "
                    "run `fuseswap down` with that version first; nothing was touched"
                )
            raise StateMismatch(
                f"shared state has layout {version} (magic {magic:#x}), "
                f"this fuseswap knows layout {LAYOUT_VERSION}; nothing was touched"
            )
        if known is None:
            raise StateMismatch("shared state: the geometry is damaged; nothing was touched")
        self.geometry = Geometry(*known[3:])
        for name, size in self.geometry.region_bytes().items():
            if regions[name].size_bytes < size:
                raise StateMismatch(f"shared state: region '{name}' is smaller than {size} bytes")
        self.regions = regions
        self.header = header
        self.slots = regions["slots"]
        self.segments = regions["segments"]
        self.arena = regions["arena"]
        self.journal = regions["journal"]
        self.dictionaries = regions["dictionaries"]
        self.index = regions["index"]
        _ = self.session  # now, and not when it is needed

    @classmethod
    def create(cls, regions: dict[str, Region], geometry: Geometry) -> SharedState:
        """Write a fresh header into zeroed ``regions`` and attach to them."""
        _write_geometry(regions["header"], geometry)
        return cls(regions)

    def mend(self) -> None:
        """Write what was put right when it was read: a second bit would be one too many.

        Only under the lock of the state: nobody else serves it.
        """
        _write_geometry(self.header, self.geometry)
        if session := self.session:
            self.session = session
        if parameters := self.parameters:
            self.parameters = parameters
        for number, name in self.codec_names.items():
            if name:
                self.keep_codec_name(number, name)

    @property
    def session(self) -> FuseSession | None:
        """The FUSE values of this mount, or None before INIT; raises `StateMismatch`."""
        fields = _read(self.header, _FUSE_AT, _FUSE)
        if fields is None:
            raise StateMismatch(
                "shared state: what INIT settled is damaged, and INIT comes once; "
                "nothing was touched"
            )
        return FuseSession(*fields) if fields[0] else None

    @session.setter
    def session(self, session: FuseSession) -> None:
        fields = (session.major, session.minor, session.flags, session.max_write)
        _write(self.header, _FUSE_AT, _FUSE.pack(*fields, session.max_pages))

    def note_progress(self, requests: int) -> None:
        """Tell the supervisor that ``requests`` were answered by this worker so far."""
        _PROGRESS.pack_into(self.header.buffer, PROGRESS_AT, requests)

    def note_alive(self, beats: int) -> None:
        """Tell the supervisor that the worker's tasks get their turns; another number a beat."""
        _PROGRESS.pack_into(self.header.buffer, HEARTBEAT_AT, beats)

    @property
    def peak_bytes(self) -> int:
        """The most memory that was in use at once, for as long as the device lives.

        0, and so counted anew, where it is damaged.
        """
        found = _read(self.header, _PEAK_AT, _PROGRESS)
        return int(found[0]) if found else 0

    @peak_bytes.setter
    def peak_bytes(self, peak: int) -> None:
        _write(self.header, _PEAK_AT, _PROGRESS.pack(peak))

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters changed while running, by name: the next worker sets them again."""
        found = self._find_parameters()
        if found is None:
            log.error("the parameters in the header are corrupt: they are those of `up` again")
            return {}
        _, text = found
        changed: dict[str, str] = json.loads(text) if text else {}
        return changed

    @parameters.setter
    def parameters(self, changed: dict[str, str]) -> None:
        """The old ones hold until the word is written: a worker may die here, too."""
        text = json.dumps(changed).encode()
        if len(text) > _PARAMETERS_BYTES:
            raise InvalidArgument(f"{len(text)} bytes of parameters do not fit in the header")
        first, second = _PARAMETERS_PLACES
        found = self._find_parameters()
        start = second if found and found[0] == first else first
        self.header.buffer[start : start + len(text)] = text
        word = check_of(_PLACE.pack(start, len(text)) + text) << 32 | start << 16 | len(text)
        _PARAMETERS.pack_into(self.header.buffer, _PARAMETERS_AT, word)

    def _find_parameters(self) -> tuple[int, bytes] | None:
        """Place and text, one bit put right in them or in the word; None for more bits."""
        (word,) = _PARAMETERS.unpack_from(self.header.buffer, _PARAMETERS_AT)
        data = None
        for flip in (0, *(1 << bit for bit in range(64))):
            record = self._parameters_at(word ^ flip)
            if record and is_sound(record):
                data = record[:-CHECK_BYTES]
                break
        else:
            record = self._parameters_at(word)
            data = opened(record) if record else None
        return (_PLACE.unpack_from(data)[0], data[_PLACE.size :]) if data else None

    def _parameters_at(self, word: int) -> bytes | None:
        """What ``word`` leads to, as a record; None where it can't be right."""
        start, length = word >> 16 & 0xFFFF, word & 0xFFFF
        if word and (start not in _PARAMETERS_PLACES or length > _PARAMETERS_BYTES):
            return None
        text = bytes(self.header.buffer[start : start + length])
        return _PLACE.pack(start, length) + text + (word >> 32).to_bytes(CHECK_BYTES, "little")

    @property
    def codec_names(self) -> dict[int, str]:
        """Codecs that were registered, by number; "" for a name that is damaged."""
        names = {}
        for number in REGISTERED:
            at = _codec_at(number)
            record = bytes(self.header.buffer[at : at + _CODEC_BYTES])
            if any(record[-CHECK_BYTES:]):  # it comes last
                data = opened(record)
                if data is None:
                    names[number] = ""
                elif any(data):
                    names[number] = data.rstrip(b"\0").decode("ascii", "replace")
        return names

    def keep_codec_name(self, number: int, name: str) -> None:
        """``number`` is for the codec ``name``, for as long as the device lives."""
        data = name.encode("ascii").ljust(MAX_NAME_BYTES, b"\0")
        at = _codec_at(number)
        buffer = self.header.buffer
        buffer[at : at + MAX_NAME_BYTES] = data
        check = check_of(data)
        _CODEC_CHECK.pack_into(buffer, at + MAX_NAME_BYTES, check)  # crash point: codec-name

    def close(self) -> None:
        """Unmap all regions."""
        for region in self.regions.values():
            region.close()


def _codec_at(number: int) -> int:
    return _CODECS_AT + (number - REGISTERED.start) * _CODEC_BYTES


def _read(header: Region, at: int, layout: struct.Struct) -> tuple[int, ...] | None:
    """The fields of a record, None where it is damaged."""
    data = opened(bytes(header.buffer[at : at + layout.size + CHECK_BYTES]))
    return None if data is None else layout.unpack(data)


def _write(header: Region, at: int, data: bytes) -> None:
    record = sealed(data)
    header.buffer[at : at + len(record)] = record


def _write_geometry(header: Region, geometry: Geometry) -> None:
    counts = (geometry.page_count, geometry.segment_count, geometry.frame_count)
    _write(header, 0, _HEADER.pack(MAGIC, LAYOUT_VERSION, 0, *counts))
