"""Stores over anonymous memory: what the supervisor holds, without a supervisor.

`SharedMemory` owns the files; every `attach` maps them anew, as the next worker
would, so a test crashes a worker by attaching again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fuseswap.dedup.policy import Dedup
from fuseswap.errors import RETRY, Deferred, NoMemory, PoolFull, StoreRefused
from fuseswap.filesystem.device import Device
from fuseswap.frontswap.backend import Patience
from fuseswap.frontswap.cache_statistics import CacheStatistics
from fuseswap.frontswap.chain import Frontswap
from fuseswap.frontswap.compressed_cache import CompressedCache
from fuseswap.store.dictionary_area import Dictionaries
from fuseswap.store.geometry import Geometry
from fuseswap.store.region import Region
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.superblock import SharedState
from fuseswap.units import PageNumber, SegmentId
from tests.support.raw_memories import RawSlots

# 5 MiB of pages in two clusters and a half; eight frames.
SMALL = Geometry(page_count=1280, segment_count=9, frame_count=8)


class AskAgain(Deferred):
    """Of a store that waits for nothing in particular."""

    def begin(self, answer: Callable[[Any], None]) -> None:
        answer(RETRY)


class FrontedCache:
    """A compressed cache and its front end, as one object.

    Pages go through both; everything else is the cache's.  `on_full` says whether a store waits
    that finds the pool full.
    """

    frontswap: Frontswap
    cache: CompressedCache
    on_full: Callable[[], bool] | None
    slots: SlotTable
    log: SegmentLog
    dedup: Dedup
    dictionaries: Dictionaries
    page_count: int
    adopting: bool

    def __init__(self, frontswap: Frontswap, cache: CompressedCache) -> None:
        self.__dict__.update(frontswap=frontswap, cache=cache, on_full=None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "on_full":
            self.__dict__[name] = value
            set_patience(self.frontswap, self._patience)
        else:
            setattr(self.cache, name, value)

    def _patience(self, page: int, refusal: StoreRefused) -> Deferred | None:
        waits = (
            isinstance(refusal, PoolFull | NoMemory) and self.on_full is not None and self.on_full()
        )
        return AskAgain(str(refusal)) if waits else None

    def store(self, page: int, data: bytes | memoryview, replace: bool = False) -> None:
        self.frontswap.store(PageNumber(page), data, replace)

    def load(self, page: int) -> bytes | None:
        return self.frontswap.load(PageNumber(page))

    def invalidate_page(self, page: int) -> bool:
        before = self.frontswap.counters.invalidates
        self.frontswap.invalidate_page(PageNumber(page))
        return self.frontswap.counters.invalidates > before

    def invalidate_area(self, first: int, count: int) -> int:
        before = self.frontswap.counters.invalidates
        self.frontswap.invalidate_area(PageNumber(first), count)
        return self.frontswap.counters.invalidates - before

    @property
    def foreign_pages(self) -> int:
        """Pages that other backends of the chain have."""
        others = (one for one in self.frontswap.links.backends if one is not self.cache)
        return sum(one.stored_pages for one in others)

    def statistics(self) -> CacheStatistics:
        return self.cache.statistics(self.foreign_pages, self.frontswap.uncounted_pages)

    def loaded_share(self, segment: SegmentId) -> float:
        return self.cache.loaded_share(segment)

    def adopt_some(self, clusters: int = 4) -> bool:
        return self.frontswap.adopt_some(clusters)


def fronted_of(device: Device) -> FrontedCache:
    """The cache of a device behind its front end."""
    return FrontedCache(device.frontswap, device.cache)


def set_patience(frontswap: Frontswap, patience: Patience | None) -> Patience | None:
    """What the first backend waits for from here on; returns what it waited for before."""
    links = frontswap.links
    first, *rest = links.chain
    links._set([replace(first, patience=patience), *rest])
    frontswap._link_up()
    return first.patience


def fronted(state: SharedState, *, lazy: bool = False, **options: Any) -> FrontedCache:
    """A cache over ``state``, alone in its chain; ``options`` are its own."""
    slots = SlotTable(state.slots, state.geometry.page_count, options.get("feeder"))
    frontswap = Frontswap(slots)
    cache = CompressedCache(state, slots, **options)
    frontswap.register(cache, order=0)
    if not lazy:
        frontswap.adopt_all()
    return FrontedCache(frontswap, cache)


class SharedMemory:
    """The four files of one device, with a fresh header."""

    def __init__(self, geometry: Geometry = SMALL) -> None:
        self.geometry = geometry
        self.fds: dict[str, int] = {}
        self.raws: dict[str, RawSlots] = {}
        for name, size_bytes in geometry.region_bytes().items():
            self.fds[name] = os.memfd_create(name, os.MFD_CLOEXEC)
            os.ftruncate(self.fds[name], size_bytes)
        SharedState.create(self.regions(), geometry).close()

    def add_raw(self, name: str, slots: int) -> None:
        """Have memory for a raw backend too."""
        self.raws[name] = RawSlots(slots)

    def memories(self) -> dict[str, Region]:
        """New mappings of the memory of raw backends."""
        return {name: raw.map() for name, raw in self.raws.items()}

    def regions(self) -> dict[str, Region]:
        """New mappings of all files."""
        return {name: Region(fd) for name, fd in self.fds.items()}

    def attach(self) -> SharedState:
        """What a new process sees."""
        return SharedState(self.regions())

    def attach_cache(self) -> FrontedCache:
        """The cache of a new worker."""
        return fronted(self.attach())

    def allocated_bytes(self, name: str) -> int:
        """Memory the file ``name`` really takes."""
        return os.fstat(self.fds[name]).st_blocks * 512

    def close(self) -> None:
        """Close the files; mappings stay valid until they are collected."""
        for fd in self.fds.values():
            os.close(fd)
        for raw in self.raws.values():
            raw.close()
