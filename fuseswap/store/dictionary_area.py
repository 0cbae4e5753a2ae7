"""Dictionaries: what zstd may know of a page before it has seen it.

Eight places of 128 KiB in the shared state.  The number of a dictionary is its place:

    0   version (4 bytes; 0: the place is free), length (4 bytes), check (8 bytes, xxh3 of
        the dictionary with the version as its seed)
    64  the dictionary

The version is written last when one is added and first when one is dropped: the commit.
Versions only grow; the highest is the current one, all others are kept as long as an
object needs them.  One that does not match its check is kept as well, so that its pages
say EIO and its place is not taken by another.

``codecs/dictionary.py`` has the objects that need one, ``dictionary_use.py`` counts them.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from functools import partial

import xxhash

from fuseswap.codecs.dictionary import Dictionary
from fuseswap.store.geometry import DICTIONARY_PLACE_BYTES, DICTIONARY_PLACES
from fuseswap.store.memory_reserve import AtOnce, Feeder
from fuseswap.store.region import Region
from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)

_HEAD = struct.Struct("<IIQ")
_VERSION = struct.Struct("<I")
_REST = struct.Struct("<IQ")
_DATA_AT = 64
MAX_DICTIONARY_BYTES = DICTIONARY_PLACE_BYTES - _DATA_AT


class Dictionaries:
    """All of them, in the region of the shared state."""

    def __init__(
        self,
        region: Region,
        learn: Callable[[int, bytes], None],
        feeder: Feeder | None = None,
    ) -> None:
        """Adopt what a former process left; ``learn`` gets each number and its dictionary."""
        self._region = region
        self._learn = learn
        self._feeder: Feeder = feeder or AtOnce()
        self._ready = -1  # the place whose memory is there before it is needed
        self._ordering = False
        self._places: list[Dictionary | None] = [None] * DICTIONARY_PLACES
        self._newest = 0  # version of a sound one, here by now or gone again
        for start, end in region.extents():
            for place in range(start // DICTIONARY_PLACE_BYTES, -(-end // DICTIONARY_PLACE_BYTES)):
                self._adopt(place)
        self.get_ready()

    def get_ready(self) -> None:
        """With a feeder: have the memory of the next place made, ahead of need."""
        place = self._places.index(None) if self.has_place else -1
        if self._feeder.deferred and not self._ordering and place not in (self._ready, -1):
            self._ordering = True
            at = place * DICTIONARY_PLACE_BYTES
            done = partial(self._made, place)
            self._feeder.populate(self._region, at, DICTIONARY_PLACE_BYTES, done, can_wait=True)

    @property
    def ready_bytes(self) -> int:
        """Memory of the place that waits for a dictionary."""
        return DICTIONARY_PLACE_BYTES if self._ready >= 0 else 0

    def _made(self, place: int, made: bool) -> None:
        self._ordering = False
        if made and self._places[place] is None:
            self._ready = place
        elif not made:
            self._region.punch(place * DICTIONARY_PLACE_BYTES, DICTIONARY_PLACE_BYTES)

    def _adopt(self, place: int) -> None:
        at = place * DICTIONARY_PLACE_BYTES
        version, length, check = _HEAD.unpack_from(self._region.buffer, at)
        if self._places[place]:
            return
        if not version:  # a former process died before it was added, or after it was dropped
            self._region.punch(at, DICTIONARY_PLACE_BYTES)
            return
        data = self._region.map[at + _DATA_AT : at + _DATA_AT + min(length, MAX_DICTIONARY_BYTES)]
        if len(data) != length or _check(data, version) != check:
            log.error("dictionary %d is corrupt: pages compressed with it give EIO", version)
            data = b""
        self._keep(Dictionary(place, version, data))

    def _keep(self, dictionary: Dictionary) -> None:
        self._places[dictionary.number] = dictionary
        if dictionary.data:
            self._newest = max(self._newest, dictionary.version)
        self._learn(dictionary.number, dictionary.data)

    @property
    def all(self) -> list[Dictionary]:
        """Those there are."""
        return [one for one in self._places if one]

    @property
    def current(self) -> Dictionary | None:
        """The newest one that is sound."""
        sound = [one for one in self.all if one.data]
        return max(sound, key=lambda one: one.version, default=None)

    def get(self, number: int) -> Dictionary | None:
        """The one that ``number`` stands for."""
        return self._places[number] if number < DICTIONARY_PLACES else None

    @property
    def has_place(self) -> bool:
        """Whether there is room for another."""
        return None in self._places

    def add(self, data: bytes) -> Dictionary | None:
        """Keep another, current from here on; None where there is no place or no memory."""
        if not self.has_place or not 0 < len(data) <= MAX_DICTIONARY_BYTES:
            return None
        place = self._places.index(None)
        at = place * DICTIONARY_PLACE_BYTES
        version = self._newest + 1
        buffer = self._region.buffer
        size = -(-(_DATA_AT + len(data)) // PAGE_SIZE) * PAGE_SIZE
        if not self._has_memory(place, size):
            return None
        buffer[at + _DATA_AT : at + _DATA_AT + len(data)] = data
        _REST.pack_into(buffer, at + 4, len(data), _check(data, version))
        _VERSION.pack_into(buffer, at, version)  # crash point: dictionary-commit
        added = Dictionary(place, version, data)
        self._keep(added)
        self.get_ready()
        return added

    def _has_memory(self, place: int, size: int) -> bool:
        """Whether the first ``size`` bytes of ``place`` are resident; the rest goes back."""
        at = place * DICTIONARY_PLACE_BYTES
        if self._feeder.deferred:
            self._feeder.collect()
            if place != self._ready:
                self.get_ready()
                return False
            if size < DICTIONARY_PLACE_BYTES:
                self._region.punch(at + size, DICTIONARY_PLACE_BYTES - size)
            self._ready = -1
            return True
        try:
            self._region.populate(at, size)
        except OSError:
            return False
        return True

    def drop(self, dictionary: Dictionary) -> None:
        """No object needs it any more."""
        at = dictionary.number * DICTIONARY_PLACE_BYTES
        _VERSION.pack_into(self._region.buffer, at, 0)  # crash point: dictionary-drop
        self._places[dictionary.number] = None  # crash point: dictionary-punch
        self._region.punch(at, DICTIONARY_PLACE_BYTES)
        self._learn(dictionary.number, b"")


def memory_bytes(dictionary: Dictionary) -> int:
    """What it takes of the shared state: whole pages."""
    return -(-(_DATA_AT + len(dictionary.data)) // PAGE_SIZE) * PAGE_SIZE


def _check(data: bytes, version: int) -> int:
    return int(xxhash.xxh3_64_intdigest(data, version))
