"""The shared state: what outlives the process.

Seven regions.  The supervisor creates and holds them; each worker attaches to them in turn:

    header    8 KiB   magic, layout version, geometry, negotiated FUSE values, parameters, peak,
                      names of codecs and tiers, key, and all of these again; progress, heartbeat,
                      notes of plugins at work, a call that was not allowed
              528 KiB behind it: how long requests took (``latency_histogram.py``)
    slots     8 bytes a swap page, one 4096-byte page a cluster (``slot_table.py``)
    segments  32 bytes a segment (``segment_log.py``)
    arena     1 MiB a frame, where segments in memory live
    journal   requests in flight, where the kernel can't resend (``transport/request_journal.py``)
    dictionaries  what pages were compressed with (``dictionary_area.py``)
    index     where contents may be found a second time: hints, never trusted (``dedup/policy.py``)

All are sparse: a 1 TiB swapfile has a 2 GiB slot region and takes none of it.
A header of another layout is refused and left as it is.  What a worker reads of it are
records (``checked_record.py``), each kept twice, at the same place of two pages.  The first is
written before the second.  A reader takes the first that is sound, so it finds the old values or
the new ones wherever a writer died.  A worker that attaches writes both again.  With both damaged,
the geometry or what INIT settled keeps the worker from attaching, and nothing is touched.
Progress, heartbeat, the notes of plugins at work and that of a call have no check and no copy.
They are written again and again, and no page depends on them.

The key is what tiers encrypt with.  It is random, made with the device, and nowhere but here and
in what workers derive from it.  The region is unevictable, so no swap has it, and a process that
maps it leaves no core dump (``linux/protect.py``).  It is read where something is encrypted, so
damage to both copies shows there alone.
"""

from __future__ import annotations

import json
import logging
import os
import struct
from dataclasses import dataclass
from typing import Any, Protocol

from fuseswap.codecs.call_notes import CallNotes
from fuseswap.codecs.codec import REGISTERED
from fuseswap.errors import InvalidArgument, StateMismatch
from fuseswap.store.checked_record import CHECK_BYTES, opened, sealed
from fuseswap.store.geometry import HEADER_RECORDS_BYTES, Geometry
from fuseswap.store.latency_histogram import LATENCY_BYTES, PLACE_BYTES, LatencyHistogram
from fuseswap.store.region import Region
from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)

MAGIC = 0x7061777365737566  # "fuseswap", little endian
LAYOUT_VERSION = 7
KEY_BYTES = 32
_OLDER_VERSIONS = range(1, LAYOUT_VERSION)


_COPIES_AT = (0, PAGE_SIZE)  # of each record, beside where it is in a page
_HEADER = struct.Struct("<QIIQQQ")
_KEY_AT = 64
_KEY = struct.Struct(f"{KEY_BYTES}s")
_FUSE_AT = 256
PROGRESS_AT = 512  # read by the supervisor, which maps nothing else
HEARTBEAT_AT = 520  # the same
_PEAK_AT = 528
REFUSED_CALL_AT = 560  # a worker's last one; read by the supervisor, too
_PROGRESS = struct.Struct("<Q")
SHELF_NOTES_AT = 320  # to 407; ``frontswap/shelf_notes.py``
_CALL_NOTES_AT = 544  # to 559
_CODEC_NAMES_AT = 576
_CODEC_NAMES = struct.Struct("380s")  # JSON, and zeros behind it, as the next two
_TIER_NAMES_AT = 2564
_TIER_NAMES = struct.Struct("1500s")
_PARAMETERS_AT = 1024
_PARAMETERS_BYTES = 1532
_PARAMETERS = struct.Struct(f"{_PARAMETERS_BYTES}s")  # JSON, and zeros behind it
_FUSE = struct.Struct("<IIQII")
# All but the geometry.
_RECORDS = (
    (_KEY_AT, _KEY),
    (_FUSE_AT, _FUSE),
    (_PEAK_AT, _PROGRESS),
    (_CODEC_NAMES_AT, _CODEC_NAMES),
    (_PARAMETERS_AT, _PARAMETERS),
    (_TIER_NAMES_AT, _TIER_NAMES),
)
_NUMBERS = frozenset(map(str, range(256)))  # of codecs and tiers, as JSON has them

REGION_NAMES = ("header", "slots", "segments", "arena", "journal", "dictionaries", "index")


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
        known = _read(header.buffer, 0, _HEADER)
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
        needed = {**self.geometry.region_bytes(), "header": HEADER_RECORDS_BYTES}
        for name, size in needed.items():
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
        self.call_notes = CallNotes(self.header.buffer, _CALL_NOTES_AT)
        _ = self.session  # now, and not when it is needed

    @classmethod
    def create(cls, regions: dict[str, Region], geometry: Geometry) -> SharedState:
        """Write a fresh header, with a key, into zeroed ``regions`` and attach to them."""
        _write(regions["header"], _KEY_AT, os.urandom(KEY_BYTES))
        _write_geometry(regions["header"], geometry)
        return cls(regions)

    def repair(self) -> None:
        """Write both copies of each record: of one that is damaged there would be none later.

        Only under the lock of the state: no other worker serves it.
        """
        _write_geometry(self.header, self.geometry)
        for at, layout in _RECORDS:
            fields = _read(self.header.buffer, at, layout)
            if fields is not None:
                _write(self.header, at, layout.pack(*fields))

    @property
    def session(self) -> FuseSession | None:
        """The FUSE values of this mount, or None before INIT; raises `StateMismatch`."""
        fields = _read(self.header.buffer, _FUSE_AT, _FUSE)
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

    @property
    def key(self) -> bytes:
        """32 bytes that only this device has; raises `StateMismatch` where they are damaged."""
        fields = _read(self.header.buffer, _KEY_AT, _KEY)
        if fields is None or not any(fields[0]):
            raise StateMismatch("shared state: the key is damaged: what it encrypted is lost")
        key: bytes = fields[0]
        return key

    def latency(self, place: int, name: str) -> LatencyHistogram:
        """The histogram in ``place``, of what ``name`` says.

        In a header that an older fuseswap made there is no room: then it ends with this worker.
        """
        if self.header.size_bytes < HEADER_RECORDS_BYTES + LATENCY_BYTES:
            return LatencyHistogram(memoryview(bytearray(PLACE_BYTES)), 0, 0, name)
        return LatencyHistogram(self.header.buffer, HEADER_RECORDS_BYTES, place, name)

    def populate_latency(self, places: int) -> None:
        """Have the memory of the first ``places`` histograms, where the header has them."""
        if self.header.size_bytes >= HEADER_RECORDS_BYTES + LATENCY_BYTES:
            self.header.populate(HEADER_RECORDS_BYTES, places * PLACE_BYTES)

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
        found = _read(self.header.buffer, _PEAK_AT, _PROGRESS)
        return int(found[0]) if found else 0

    @peak_bytes.setter
    def peak_bytes(self, peak: int) -> None:
        _write(self.header, _PEAK_AT, _PROGRESS.pack(peak))

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters changed while running, by name: the next worker sets them again."""
        found = _read(self.header.buffer, _PARAMETERS_AT, _PARAMETERS)
        changed = None if found is None else _texts(found[0])
        if changed is None:
            log.error("the parameters in the header are corrupt: they are those of `up` again")
        return changed or {}

    @parameters.setter
    def parameters(self, changed: dict[str, str]) -> None:
        text = json.dumps(changed).encode()
        if len(text) > _PARAMETERS_BYTES:
            raise InvalidArgument(f"{len(text)} bytes of parameters do not fit in the header")
        _write(self.header, _PARAMETERS_AT, _PARAMETERS.pack(text))

    @property
    def codec_names(self) -> dict[int, str]:
        """Codecs that were registered, by number; all "" where they are damaged."""
        names = _names(self.header.buffer, _CODEC_NAMES_AT, _CODEC_NAMES)
        return dict.fromkeys(REGISTERED, "") if names is None else names

    def keep_codec_name(self, number: int, name: str) -> None:
        """``number`` is for the codec ``name``, for as long as the device lives."""
        self._keep_names(_CODEC_NAMES_AT, _CODEC_NAMES, {**self.codec_names, number: name})

    @property
    def tier_names(self) -> dict[int, str]:
        """Tiers that were registered, by number."""
        names = _names(self.header.buffer, _TIER_NAMES_AT, _TIER_NAMES)
        if names is None:
            log.error("the names of tiers in the header are corrupt: numbers are given anew")
        return names or {}

    def keep_tier_names(self, names: dict[int, str]) -> None:
        """Raises `InvalidArgument`, and keeps the old ones, where they are too long."""
        self._keep_names(_TIER_NAMES_AT, _TIER_NAMES, names)

    def _keep_names(self, at: int, layout: struct.Struct, names: dict[int, str]) -> None:
        text = json.dumps(names, separators=(",", ":")).encode()
        if len(text) > layout.size:
            raise InvalidArgument(f"{len(text)} bytes of names, {layout.size} have room")
        _write(self.header, at, layout.pack(text))

    def close(self) -> None:
        """Unmap all regions."""
        for region in self.regions.values():
            region.close()


class _Parts(Protocol):
    """Bytes, of which parts are taken."""

    def __getitem__(self, part: slice, /) -> memoryview | bytes:
        """``[start:end]``, less beyond the end."""


class _PartsOfFile:
    """Of a header that is not mapped; the key, which is not asked for, is not read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __getitem__(self, part: slice, /) -> bytes:
        return os.pread(self._fd, part.stop - part.start, part.start)


def _read(header: _Parts, at: int, layout: struct.Struct) -> tuple[Any, ...] | None:
    """The fields of a record, from the first copy that is sound; None where none is."""
    length = layout.size + CHECK_BYTES
    for copy in _COPIES_AT:
        record = bytes(header[copy + at : copy + at + length])
        if len(record) == length and (data := opened(record)) is not None:
            return layout.unpack(data)
    return None


def tier_names_in(header_fd: int) -> dict[int, str]:
    """Tiers by number, for who looks from outside at the region of the header.

    Only their names and the geometry are read.  Raises `StateMismatch` for a header of another
    version.
    """
    header = _PartsOfFile(header_fd)
    known = _read(header, 0, _HEADER)
    if known is None or known[:2] != (MAGIC, LAYOUT_VERSION):
        raise StateMismatch("shared state: the header is of another fuseswap, or damaged")
    return _names(header, _TIER_NAMES_AT, _TIER_NAMES) or {}


def _names(header: _Parts, at: int, layout: struct.Struct) -> dict[int, str] | None:
    found = _read(header, at, layout)
    names = None if found is None else _texts(found[0])
    if names is None or not all(number in _NUMBERS for number in names):
        return None
    return {int(number): name for number, name in names.items()}


def _texts(record: bytes) -> dict[str, str] | None:
    """The JSON object of texts in ``record``; None where a sound one has something else."""
    try:
        found = json.loads(record.rstrip(b"\0") or b"{}")
    except (ValueError, RecursionError):
        return None
    is_right = isinstance(found, dict) and all(isinstance(one, str) for one in found.values())
    return found if is_right else None


def _write(header: Region, at: int, data: bytes) -> None:
    """Both copies: the next worker takes whichever is whole."""
    record = sealed(data)
    for copy in _COPIES_AT:
        header.buffer[copy + at : copy + at + len(record)] = record  # crash point: header-copy


def _write_geometry(header: Region, geometry: Geometry) -> None:
    counts = (geometry.page_count, geometry.segment_count, geometry.frame_count)
    _write(header, 0, _HEADER.pack(MAGIC, LAYOUT_VERSION, 0, *counts))
