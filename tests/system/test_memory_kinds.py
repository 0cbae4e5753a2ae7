"""Every kind of shared memory: sparse, attached to twice, gives memory back, can hold a device."""

from __future__ import annotations

import os

import pytest

from fuseswap.filesystem.device import Device
from fuseswap.linux.shared_memory import KINDS, create_files
from fuseswap.store.geometry import Geometry
from fuseswap.store.region import Region
from fuseswap.store.superblock import SharedState
from fuseswap.units import GIB, MIB, PAGE_SIZE

pytestmark = pytest.mark.no_swap


@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_a_device_that_another_worker_attaches_to(kind: str) -> None:
    geometry = Geometry.for_size(64 * MIB, 8 * GIB)
    used, files = create_files(geometry.region_bytes(), kind)
    assert used == kind
    try:
        first = Device(SharedState.create({n: Region(fd) for n, fd in files.items()}, geometry))
        page = bytes(range(256)) * 16
        first.swapfile.write(5 * PAGE_SIZE, memoryview(page))
        assert os.fstat(files["arena"]).st_blocks * 512 == MIB
        second = Device(SharedState({n: Region(fd) for n, fd in files.items()}))
        assert second.swapfile.read(5 * PAGE_SIZE, PAGE_SIZE) == page
        second.swapfile.punch(0, 64 * MIB)
        second.cache.log.frames.trim(0)
        assert os.fstat(files["arena"]).st_blocks == 0
    finally:
        for fd in files.values():
            os.close(fd)
