"""What a device costs: an empty worker, a ghost of 1 TiB, and the metadata of a stored page."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from fuseswap.cli.pressure import make_body
from fuseswap.linux.process import own_bytes
from fuseswap.units import MIB
from tests.support.mounted_devices import (
    TRANSPORTS,
    TestDevice,
    device_mounted,
    device_up,
    strangers_elsewhere,
)


def rss_bytes(pid: int) -> int:
    """Its own: the reserve and the tables are shared memory."""
    own = own_bytes(pid)
    assert own, "no such process"
    return own


@pytest.mark.no_swap
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_empty_worker_takes_at_most_48_mib(transport: str) -> None:
    with device_up("--size", "2G", "--no-swapon", transport=transport) as device:
        device.status()
        assert rss_bytes(device.info["worker_pid"]) <= 48 * MIB


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_terabyte_costs_nothing(transport: str) -> None:
    """Both looked at after the same use: swap made and enabled, one page at the far end."""
    with (
        strangers_elsewhere(),
        device_up("--size", "1G", "--priority", "1", transport=transport) as small,
        device_up("--size", "1T", "--priority", "0", transport=transport) as large,
    ):
        assert large.swapfile.stat().st_size == 1 << 40
        for device in (small, large):
            device.status()
            os.statvfs(device.mountpoint)
        grown = rss_bytes(large.info["worker_pid"]) - rss_bytes(small.info["worker_pid"])
        assert grown < 8 * MIB
        supervisors = [rss_bytes(device.info["supervisor_pid"]) for device in (small, large)]
        assert supervisors[1] - supervisors[0] < MIB
        assert large.stat("mem_used_total") < 4 * MIB


@pytest.mark.no_swap
@pytest.mark.parametrize("compressor", ["lz4", "zstd:1"])
def test_metadata_is_at_most_20_bytes_a_page(tmp_path: Path, compressor: str) -> None:
    with device_mounted(tmp_path, "size=256M", f"compressor={compressor}") as device:
        stored = _store_compressible(device, 128 * MIB)
        assert device.stat("stored_pages") == stored
        assert device.stat("same_filled_pages") == 0
        assert device.stat("compr_data_size") < stored * 4096 * 6 // 10
        index = device.stat("dedup_index_bytes")  # of the first 256 MiB, to see if it pays
        assert 0 < index / stored <= 28
        assert (device.stat("metadata_bytes") - index) / stored <= 20
        overhead = device.stat("mem_used_total") - index - device.stat("compr_data_size")
        assert overhead / stored < 20 + 3 * MIB / stored + 40, "segments are filled to their ends"


def _store_compressible(device: TestDevice, size: int) -> int:
    """Write ``size`` bytes of pages as anonymous memory has them, none same-filled."""
    source = random.Random(6)
    bodies = [make_body(source) for _ in range(2000)]
    bodies = [body for body in bodies if body[:8] * 512 != body][:1500]
    with open(device.swapfile, "r+b", buffering=0) as file:
        for first in range(0, size // 4096, 256):
            chunk = b"".join(
                page.to_bytes(8, "little") + bodies[page % len(bodies)][8:]
                for page in range(first, first + 256)
            )
            assert os.pwrite(file.fileno(), chunk, first * 4096) == len(chunk)
    return size // 4096
