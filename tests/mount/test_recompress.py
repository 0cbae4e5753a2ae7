"""``fuseswap recompress`` on a mounted device: smaller, and the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.mounted_devices import TestDevice, call, device_mounted

pytestmark = pytest.mark.no_swap

PAGES = 1500


@pytest.fixture(params=["devfuse", "pyfuse3"])
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestDevice]:
    with device_mounted(tmp_path, "size=64M", transport=request.param) as device:
        yield device


def test_it_returns_when_all_is_smaller(mounted: TestDevice) -> None:
    data = b"".join(pages.hexadecimal(page, 1024) for page in range(PAGES))
    with mounted.swapfile.open("r+b") as file:
        file.write(data)
    before = mounted.stat("compr_data_size")
    done = call("recompress", mounted.name)
    assert done.returncode == 0, done.stderr
    assert f"{PAGES} pages recompressed" in done.stdout
    progress = done.stderr.strip().splitlines()[-1].split()
    assert progress[1] == progress[3] != "0"
    assert mounted.stat("compr_data_size") < before * 3 // 4
    assert mounted.stat("recompressed_pages") == PAGES
    assert mounted.swapfile.read_bytes()[: len(data)] == data
    again = call("recompress", mounted.name, "--idle", "0")
    assert again.returncode == 0
    assert ": 0 pages recompressed" in again.stdout
    assert mounted.stat("recompressed_pages") == PAGES
    assert mounted.stat("pool_total_size") < 8 * MIB < PAGES * PAGE_SIZE * 2


def test_without_a_recompressor_it_says_how_to_get_one(mounted: TestDevice) -> None:
    (mounted.mountpoint / "params" / "recomp_algorithm").write_text("none")
    done = call("recompress", mounted.name)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"set {mounted.name} recomp_algorithm=" in done.stderr
