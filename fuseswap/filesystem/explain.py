"""One page explained: where it is, why there, and how it was kept.

For a person who asks, through ``pages/NUMBER`` of the tree.  It leaves no trace: no R bit
is set, no counter moves, no cluster of the slot table is made.  It never waits: a page
on the backing file is described by what memory knows of it, and not read.

Shows nothing of a page's contents but the word of a same-filled one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from fuseswap.codecs.checksum import CHECK_BYTES
from fuseswap.codecs.dictionary import Dictionary
from fuseswap.codecs.registry import FILL, LAST_RAW, LZ4, RAW, ZSTD_DICTIONARY
from fuseswap.filesystem.device import Device
from fuseswap.frontswap.backend import Backend
from fuseswap.frontswap.raw_memory import RawMemory
from fuseswap.linux.clocks import boot_s
from fuseswap.store.segment_entry import Mark, SegmentState, Stream
from fuseswap.store.slot_word import (
    codec_of,
    cookie_of,
    fill_of,
    is_corrupt,
    is_foreign,
    is_impossible_fill,
    is_loaded,
    is_object,
    length_of,
    offset_of,
    segment_of,
)
from fuseswap.tiers.ownership_label import FIRST_PAGE_AT
from fuseswap.tiers.tier import BACKING_NAME
from fuseswap.units import PAGE_SIZE, Location, PageNumber, SegmentId

HOLE = "hole"
SAME_FILLED = "same-filled"
MEMORY = "memory"
BACKING_FILE = "backing file"
OWN_PLACE = "own place"
NOWHERE = "nowhere"

OK, CORRUPT, NOT_READ = "ok", "corrupt", "not read"

_HOW_STORED = {
    Stream.STORE: "compressed when it was stored",
    Stream.INCOMPRESSIBLE: "compressed when it was stored",
    Stream.SURVIVORS: "copied forward when its segment was cleaned",
    Stream.EVICTED: "cold: gathered to leave for the backing file",
    Stream.RECOMPRESSED: "cold: compressed again, harder",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that is known of one page; None where it does not apply.

    ``backend`` and ``tier``: their names.  ``file_offset``: bytes from the start of the file of
    a tier, where it has one that is not encrypted.  ``stored_bytes``: of the
    object without its 8 bytes of owner and checksum.  ``age_seconds``: since its segment was
    sealed, None while that is open.  ``dictionary``: its version;
    None too where its number is on the backing file, and the segment has pages of several.
    ``pages``: that share the object, this one among them.  ``slot``: where in a raw backend.
    """

    page: PageNumber
    where: str
    why: str
    backend: str | None = None
    tier: str | None = None
    extent: int | None = None
    fill: str | None = None
    codec: str | None = None
    dictionary: int | None = None
    dictionary_bytes: int | None = None
    stored_bytes: int | None = None
    segment: SegmentId | None = None
    segment_is_open: bool | None = None
    age_seconds: int | None = None
    file_offset: int | None = None
    loaded_since_stored: bool | None = None
    pages: int | None = None
    checksum: str | None = None
    slot: int | None = None

    def as_json(self) -> str:
        """One object on one line."""
        return json.dumps(asdict(self))


def explain(device: Device, page: PageNumber) -> Explanation:
    """Explain ``page``, which is one of the swapfile."""
    word = device.cache.slots.get(page)
    if device.frontswap.is_late(page):
        return Explanation(page, MEMORY, "on its way to its place on the backing file", pages=1)
    if not word:
        return Explanation(page, HOLE, "never stored, or freed since: it reads as zeros")
    if is_corrupt(word):
        return _corrupt(page, "a bit of its slot word has flipped: it gives an I/O error")
    if is_object(word):
        return _explain_object(device, page, word)
    if is_foreign(word):
        owner = device.frontswap.links.owner_of(word)
        if owner is None:
            return _corrupt(page, "its slot word means nothing here: it gives an I/O error")
        if device.place is None or owner is not device.place:
            return _explain_foreign(page, word, owner)
        return Explanation(
            page,
            OWN_PLACE,
            "written to its place on the backing file",
            device.place.name,
            codec="raw",
            stored_bytes=PAGE_SIZE,
            file_offset=FIRST_PAGE_AT + page * PAGE_SIZE,
            pages=1,
            checksum=NOT_READ,
        )
    if is_impossible_fill(word):
        return _corrupt(page, "its slot word is impossible: it gives an I/O error")
    return Explanation(
        page,
        SAME_FILLED,
        "one word repeated: it stands in the slot word and takes nothing else",
        device.cache.name,
        fill=f"{fill_of(word):#018x}",
        stored_bytes=0,
        pages=1,
    )


def _explain_foreign(page: PageNumber, word: int, owner: Backend) -> Explanation:
    where, why = f"backend {owner.name}", "no backend before this one took it"
    if not isinstance(owner, RawMemory):
        return Explanation(page, where, why, owner.name, pages=1, checksum=NOT_READ)
    return Explanation(
        page,
        where,
        why,
        owner.name,
        codec="raw",
        stored_bytes=PAGE_SIZE,
        pages=1,
        checksum=OK if owner.is_sound(page, word) else CORRUPT,
        slot=cookie_of(word),
    )


def _explain_object(device: Device, page: PageNumber, word: int) -> Explanation:
    log = device.cache.log
    segment = segment_of(word)
    codec = codec_of(word)
    state = _state_of(device, segment)
    if state is None:
        return _corrupt(page, "its segment does not exist: it gives an I/O error")
    loaded = is_loaded(word)
    is_open = state is SegmentState.OPEN
    now = int(boot_s())
    dictionary = _dictionary_of(device, word)
    found = Explanation(
        page,
        MEMORY,
        _why(device, segment, codec, loaded=loaded, is_open=is_open),
        device.cache.name,
        codec=_codec_name(device, codec),
        dictionary=dictionary.version if dictionary else None,
        dictionary_bytes=len(dictionary.data) if dictionary else None,
        stored_bytes=length_of(word),
        segment=segment,
        segment_is_open=is_open,
        age_seconds=None if is_open else max(0, now - log.table.sealed_at(segment)),
        loaded_since_stored=loaded,
        pages=pages_of(device, word),
    )
    location = log.table.location_of(segment)
    if isinstance(location, Location):
        why = found.why if found.why.startswith("cold") else f"written back; {found.why}"
        found = replace(found, why=why, extent=location.extent, checksum=NOT_READ)
        return _on_tier(device, found, location, offset_of(word))
    sound = device.cache.decoder.is_sound(log.stored(word), codec)
    return replace(found, checksum=OK if sound else CORRUPT)


def _on_tier(device: Device, found: Explanation, location: Location, offset: int) -> Explanation:
    """``found`` with the tier of its segment, and where it is there."""
    entry = next((one for one in device.tiers if one.number == location.tier), None)
    tier = entry.tier if entry else None
    if tier is None:
        why = f"tier {location.tier} is not there: it gives an I/O error"
        return replace(found, where=NOWHERE, why=why)
    at = tier.offset_of(location.extent, offset)
    where = BACKING_FILE if tier.name == BACKING_NAME else f"tier {tier.name}"
    return replace(found, where=where, tier=tier.name, file_offset=at)


def _state_of(device: Device, segment: SegmentId) -> SegmentState | None:
    """None for a segment that is not there, as a word with two flipped bits may name."""
    log = device.cache.log
    if segment >= len(log.table.bases):  # not read: that would allocate a page of the table
        return None
    try:
        state = log.table.state_of(segment)
        log.table.stream_of(segment)
    except ValueError:
        return None
    in_memory = state in (SegmentState.OPEN, SegmentState.SEALED) and log.table.bases[segment] >= 0
    return state if in_memory or state is SegmentState.ON_TIER else None


def _why(device: Device, segment: SegmentId, codec: int, *, loaded: bool, is_open: bool) -> str:
    log = device.cache.log
    stream = log.table.stream_of(segment)
    if codec <= LAST_RAW:
        why = "incompressible: compressing it saved less than 3 %"
        ago = "one store ago" if codec == RAW + 1 else f"{codec} stores ago"
        return why if codec == RAW else f"{why} when last tried, {ago}"
    if codec == FILL:
        return "one word repeated, which does not fit in the slot word"
    tried = stream is Stream.RECOMPRESSED and codec == LZ4
    if tried or log.table.is_marked(segment, Mark.TRIED):
        return "cold; compressing it harder was tried and gains nothing"
    if loaded:
        return "hot: loaded since it was stored"
    if is_open and stream is Stream.STORE:
        return "hot: stored a moment ago"
    return _HOW_STORED[stream]


def pages_of(device: Device, word: int) -> int:
    """How many pages share the object of ``word``, itself among them."""
    references = device.cache.log.references.count(word)
    uncounted = segment_of(word) in device.cache.log.unsettled
    return max(1, references if uncounted else references + 1)


def _codec_name(device: Device, codec: int) -> str | None:
    if codec == ZSTD_DICTIONARY:
        return "zstd"
    return device.cache.codecs.labels.get(RAW if codec <= LAST_RAW else codec)


def _dictionary_of(device: Device, word: int) -> Dictionary | None:
    """The one an object needs: it says so itself, or its segment has only one."""
    log, segment = device.cache.log, segment_of(word)
    if codec_of(word) != ZSTD_DICTIONARY:
        return None
    if log.table.bases[segment] >= 0:
        numbers = list(log.stored(word)[CHECK_BYTES : CHECK_BYTES + 1])
    else:
        numbers = list(log.dictionary_use.of(segment))
    return device.cache.dictionaries.get(numbers[0]) if len(numbers) == 1 else None


def _corrupt(page: PageNumber, why: str) -> Explanation:
    return Explanation(page, NOWHERE, why, checksum=CORRUPT)
