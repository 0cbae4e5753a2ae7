"""An ext4 on the loop device: the kernel's own pattern of reads, writes and discards."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounted_devices import TRANSPORTS, TestDevice, device_up, must, run

pytestmark = pytest.mark.no_swap


@pytest.fixture(scope="module", params=TRANSPORTS)
def device(request: pytest.FixtureRequest) -> Iterator[TestDevice]:
    with device_up("--size", "256M", "--no-swapon", transport=request.param) as up:
        yield up


@pytest.fixture
def mountpoint(device: TestDevice, tmp_path: Path) -> Iterator[Path]:
    must("mkfs.ext4", "-q", "-F", device.loop)
    yield tmp_path
    run(["umount", str(tmp_path)])


def test_files_survive_a_remount(device: TestDevice, mountpoint: Path) -> None:
    source = random.Random(8)
    sums = {}
    must("mount", device.loop, str(mountpoint))
    for number in range(120):
        data = source.randbytes(source.randrange(1, 200)) * source.randrange(1, 3000)
        (mountpoint / f"f{number}").write_bytes(data)
        sums[f"f{number}"] = hashlib.sha256(data).digest()
        if number % 3 == 2:
            gone = f"f{number - 2}"
            (mountpoint / gone).unlink()
            del sums[gone]
    must("umount", str(mountpoint))
    must("fsck.ext4", "-f", "-n", device.loop)
    must("mount", device.loop, str(mountpoint))
    for name, expected in sums.items():
        assert hashlib.sha256((mountpoint / name).read_bytes()).digest() == expected


def test_fstrim_gives_memory_back(mountpoint: Path, device: TestDevice) -> None:
    if device.transport == "pyfuse3":
        return  # no discards
    # Without a thread that fills inode tables with zeros meanwhile (ext4lazyinit, 16 MiB).
    must("mount", "-o", "noinit_itable", device.loop, str(mountpoint))
    (mountpoint / "big").write_bytes(os.urandom(64 << 20))
    must("sync", "-f", str(mountpoint))
    full = device.stat("stored_pages")
    (mountpoint / "big").unlink()
    must("sync", "-f", str(mountpoint))
    must("fstrim", str(mountpoint))
    assert device.stat("stored_pages") <= full - (60 << 20) // 4096
    assert shutil.disk_usage(mountpoint).free > 100 << 20
