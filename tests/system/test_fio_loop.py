"""fio --verify on the loop device: direct and through the page cache, with trims, no error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.units import MIB
from tests.support.mounted_devices import TRANSPORTS, TestDevice, device_up
from tests.system.fio_jobs import DATA, fio, write_and_verify

pytestmark = pytest.mark.no_swap

# A loop device of 4096-byte sectors takes no less directly; smaller blocks are buffered.
DIRECT = ("--bsrange=4k-1M", "--ioengine=libaio", "--iodepth=32", "--direct=1")
BUFFERED = ("--bsrange=512-1M", "--ioengine=psync", "--direct=0", "--end_fsync=1")


@pytest.fixture(scope="module", params=TRANSPORTS)
def device(request: pytest.FixtureRequest) -> Iterator[TestDevice]:
    with device_up("--size", "64M", "--no-swapon", transport=request.param) as up:
        yield up


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("shape", [DIRECT, BUFFERED], ids=["direct", "buffered"])
def test_every_block_is_good(
    device: TestDevice, tmp_path: Path, shape: tuple[str, ...], data: str
) -> None:
    write_and_verify(tmp_path, device.loop, *shape, *DATA[data])
    assert device.stat("checksum_errors") == 0


@pytest.fixture(scope="module")
def trimming() -> Iterator[TestDevice]:
    with device_up("--size", "64M", "--no-swapon") as up:
        yield up


@pytest.mark.parametrize("data", ["incompressible", "compressible", "zero", "duplicate"])
def test_each_block_trimmed_then_written(trimming: TestDevice, tmp_path: Path, data: str) -> None:
    before = trimming.stat("discards")
    trims = ("--rw=randtrimwrite", "--size=48M", "--verify_fatal=1", *DIRECT)
    report = fio(tmp_path, trimming.loop, *trims, *DATA[data])
    assert report["trim"]["io_bytes"] == report["read"]["io_bytes"] == 48 * MIB
    assert trimming.stat("discards") - before >= report["trim"]["total_ios"] // 2
    assert trimming.stat("checksum_errors") == 0


def test_written_blocks_trimmed_again_are_zero(trimming: TestDevice, tmp_path: Path) -> None:
    """A third of what was written is trimmed again, and must then read as zeros."""
    trims = ("--trim_percentage=30", "--trim_verify_zero=1", "--trim_backlog=32")
    base = ("--rw=randtrimwrite", "--size=48M", "--verify_fatal=1", *DIRECT)
    fio(tmp_path, trimming.loop, *base, *DATA["incompressible"], *trims)
    assert trimming.stat("stored_pages") < 46 * MIB // 4096


def test_trims_alone_give_all_memory_back(trimming: TestDevice, tmp_path: Path) -> None:
    write_and_verify(tmp_path, trimming.loop, *DIRECT, *DATA["incompressible"])
    fio(tmp_path, trimming.loop, "--rw=randtrim", "--size=48M", "--bs=64k", "--ioengine=psync")
    assert trimming.stat("stored_pages") == 0
    trimming.wait_for_pool_below(4 * MIB)
