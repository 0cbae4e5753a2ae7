"""A `Device` over plain memory files: no mount, no process, gone with the test."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

from fuseswap.filesystem.device import Device
from fuseswap.linux import shared_memory
from fuseswap.store.geometry import Geometry
from fuseswap.store.region import Region
from fuseswap.store.slot_word import offset_of, segment_of
from fuseswap.store.superblock import SharedState
from fuseswap.units import MIB, PageNumber


@contextmanager
def memory_device(size_bytes: int = 64 * MIB, memory_bytes: int = 64 * MIB) -> Iterator[Device]:
    """A fresh device of ``size_bytes`` on a machine that is said to have ``memory_bytes``."""
    geometry = Geometry.for_size(size_bytes, memory_bytes)
    _, files = shared_memory.create_files(geometry.region_bytes(), "memfd")
    state = SharedState.create({name: Region(fd) for name, fd in files.items()}, geometry)
    device = Device(state)
    try:
        yield device
    finally:
        gc.collect()  # tracebacks of errors that were expected hold views of the arena
        device.cache.close()
        state.close()
        for fd in files.values():
            os.close(fd)


def flip_bit_of_page(device: Device, page: int) -> None:
    """Damage the stored object of ``page``, as a stray write would."""
    word = device.cache.slots.get(PageNumber(page))
    at = device.cache.log.table.bases[segment_of(word)] + offset_of(word)
    device.state.arena.buffer[at + 8] ^= 1
