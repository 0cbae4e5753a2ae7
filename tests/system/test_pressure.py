"""The main job: a process three times its memory cgroup; every page it reads back is checked."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from fuseswap.host import swap
from fuseswap.host.cgroup import MemoryCgroup
from fuseswap.units import MIB
from tests.devices import TRANSPORTS, TestDevice, device_up, run

SIZE = 768 * MIB
MEMORY = 256 * MIB


def press(device: TestDevice, size: int, memory: int, *options: str) -> dict[str, Any]:
    """Run the process in a cgroup of its own; returns its last report.

    A shell moves itself in and becomes the process: no Python between fork and exec.
    """
    with MemoryCgroup(f"fuseswap-{device.name}", memory) as cgroup:
        enter = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(cgroup.path / "cgroup.procs")]
        command = [sys.executable, "-m", "fuseswap.pressure", "--size", str(size), *options]
        done = run([*enter, *command], timeout_s=120.0)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert report["phase"] == "end", done.stderr
    assert done.returncode == 0, report
    return report


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_bad_page(transport: str) -> None:
    with device_up("--size", "1G", "--priority", "200", transport=transport) as device:
        report = press(device, SIZE, MEMORY, "--seconds", "8")
        assert report["bad_pages"] == 0
        assert report["pages"] == SIZE // 4096
        assert report["touches"] > 10_000
        assert device.stat("succ_stores") > (SIZE - MEMORY) // 4096 * 3 // 4
        assert device.stat("loads") > 10_000
        assert device.stat("failed_stores") == 0
        assert device.stat("checksum_errors") == 0
        assert device.status()["restarts"] == 0
        if transport == "devfuse":
            assert device.stat("discards") > 0
            device.wait_for_pool_below(4 * MIB)


def test_a_full_pool_keeps_pages_in_memory() -> None:
    """The pool holds a sixth of what would be swapped; the kernel keeps the rest and goes on."""
    options = ("--size", "512M", "--pool-limit", "16M", "--priority", "200")
    with device_up(*options) as device:
        limit = MemoryCgroup(f"fuseswap-{device.name}-soft", 400 * MIB)
        assert limit.path.name.endswith("soft")
        report = press(device, 160 * MIB, 140 * MIB, "--seconds", "3")
        assert report["bad_pages"] == 0
        area = swap.area_of(device.loop)
        assert area is not None
        assert device.stat("pool_total_size") <= 16 * MIB


def test_zstd_and_a_change_under_way() -> None:
    """Pages stored with one codec are read after the switch to another."""
    options = ("--size", "512M", "--compressor", "zstd:1", "--priority", "200")
    with device_up(*options) as device:
        assert press(device, 192 * MIB, 64 * MIB, "--seconds", "2")["bad_pages"] == 0
        (device.mountpoint / "params" / "compressor").write_text("lz4")
        assert press(device, 192 * MIB, 64 * MIB, "--seconds", "2")["bad_pages"] == 0
        assert device.stat("checksum_errors") == 0
