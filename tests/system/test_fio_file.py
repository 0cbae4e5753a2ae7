"""fio --verify on the file: every kind of data, sizes from 512 bytes to 1 MiB, no error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.units import MIB
from tests.support.mounted_devices import TRANSPORTS, TestDevice, device_mounted
from tests.system.fio_jobs import DATA, SHAPES, fio, read_all, write_and_verify

pytestmark = pytest.mark.no_swap

PAGES = 48 * MIB // 4096


@pytest.fixture(scope="module", params=TRANSPORTS)
def device(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestDevice]:
    directory = tmp_path_factory.mktemp("mnt")
    with device_mounted(directory, "size=64M", transport=request.param) as mounted:
        yield mounted


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_block_is_good(device: TestDevice, tmp_path: Path, shape: str, data: str) -> None:
    # The data's options come last: where it needs block sizes of its own, they win.
    write_and_verify(tmp_path, str(device.swapfile), *SHAPES[shape], *DATA[data])
    assert device.stat("checksum_errors") == 0
    assert device.stat("failed_requests") == 0


def test_the_data_is_what_it_is_called(device: TestDevice, tmp_path: Path) -> None:
    """fio ignores some options where it verifies; the statistics say what arrived."""

    def store(data: str, shape: str = "range-deep") -> int:
        write_and_verify(tmp_path, str(device.swapfile), *SHAPES[shape], *DATA[data])
        assert device.stat("stored_pages") >= PAGES * 9 // 10
        return device.stat("compr_data_size")

    assert store("compressible") < PAGES * 4096 * 6 // 10
    store("zero")
    assert device.stat("same_filled_pages") > PAGES * 8 // 10
    assert store("duplicate") < PAGES * 4096 // 4
    # Last: a page that did not compress is kept raw untried a few times when overwritten.
    store("incompressible", "unaligned")
    assert device.stat("stored_incompressible_pages") > PAGES * 8 // 10


def test_overwrites_are_good(device: TestDevice, tmp_path: Path) -> None:
    """Two loops over the same blocks with verification between, in sizes that do not match."""
    base = ("--bsrange=512-64k", "--ioengine=libaio", "--iodepth=16", "--verify=crc32c")
    more = ("--verify_backlog=64", "--loops=3", "--norandommap=0", "--randseed=9")
    options = ("--rw=randwrite", "--size=16M", "--verify_fatal=1", *base, *more)
    fio(tmp_path, str(device.swapfile), *options)


def test_falloc_trims_leave_the_rest_good(device: TestDevice, tmp_path: Path) -> None:
    """Blocks of one half are checked before and after the other half was punched away."""
    if device.transport == "pyfuse3":
        return  # it has no fallocate: tests/mount/test_holes.py
    target = str(device.swapfile)
    half = ("--rw=randwrite", "--size=24M", "--bsrange=512-1M", "--verify=crc32c", "--randseed=3")
    fio(tmp_path, target, *half, "--verify_fatal=1")
    with open(target, "r+b", buffering=0) as file:
        for at in range(24 * MIB, 48 * MIB, MIB):
            os.pwrite(file.fileno(), os.urandom(MIB), at)
    trims = ("--rw=randtrim", "--offset=24M", "--size=24M", "--bsrange=512-1M", "--ioengine=falloc")
    report = fio(tmp_path, target, *trims)
    assert report["trim"]["io_bytes"] == 24 * MIB
    fio(tmp_path, target, *half, "--verify_only=1", "--verify_fatal=1")
    assert not any(read_all(device.swapfile, 24 * MIB, 24 * MIB))
    # A page that was zeroed in pieces is stored still, as a same-filled one.
    held = device.stat("stored_pages") - device.stat("same_filled_pages")
    assert held <= 24 * MIB // 4096
