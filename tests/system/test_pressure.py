"""The main job: a process three times its memory cgroup; every page it reads back is checked."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from subprocess import PIPE, Popen
from typing import Any

import pytest

from fuseswap.linux import swap_area
from fuseswap.linux.cgroup import MemoryCgroup
from fuseswap.units import MIB
from tests.support.mounted_devices import TRANSPORTS, TestDevice, device_up, run, wait_until

SIZE = 768 * MIB
MEMORY = 256 * MIB
TOUCHES = 50_000


def command_in(cgroup: MemoryCgroup, size: int, *options: str) -> list[str]:
    """The process, by way of a shell that moves itself in: no Python between fork and exec."""
    enter = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(cgroup.path / "cgroup.procs")]
    return [*enter, sys.executable, "-m", "fuseswap.cli.pressure", "--size", str(size), *options]


def press(device: TestDevice, size: int, memory: int, *options: str) -> dict[str, Any]:
    """Run the process in a cgroup of its own; returns its last report."""
    with MemoryCgroup(f"fuseswap-{device.name}", memory) as cgroup:
        done = run(command_in(cgroup, size, *options))
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert report["phase"] == "end", done.stderr
    assert done.returncode == 0, report
    return report


def is_returned(device: TestDevice) -> bool:
    """Whether the memory of a process that has ended is back.

    Under 4 MiB, where the swap is ours alone.  Some machines page out everybody's cold memory
    (DAMON's pageout, also without pressure): what is in use by now is theirs, and each such page
    keeps a cluster of 512 from being discarded.  Then the rest must be gone, and the memory of
    every segment without a page.  Strangers' pages lie together mostly: with 200 MiB of them, a
    tenth of what the process had swapped out stayed in their clusters; half of it is the bound.
    """
    pool = device.stat("pool_total_size")
    area = swap_area.area_of(device.loop)
    assert area is not None
    strangers = area.used_bytes // 4096
    if not strangers:
        return pool < 4 * MIB
    most = min(512 * strangers + 1, strangers + (SIZE - MEMORY) // 4096 // 2)
    return device.stat("stored_pages") <= most and pool - device.stat("segments") * MIB < 4 * MIB


def squeeze(cgroup: MemoryCgroup, target: int) -> None:
    """Have the kernel swap out as much as it can, without an OOM kill where it cannot."""
    with suppress(OSError):  # EBUSY or EAGAIN: it got stuck above the target, as is meant
        reclaim = cgroup.path / "memory.reclaim"
        if reclaim.exists():
            reclaim.write_text(str(cgroup.used_bytes() - target))
        else:
            (cgroup.path / "memory.limit_in_bytes").write_text(str(target))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_bad_page(transport: str) -> None:
    with device_up("--size", "1G", "--priority", "200", transport=transport) as device:
        report = press(device, SIZE, MEMORY, "--seconds", "3600", "--touches", str(TOUCHES))
        assert report["bad_pages"] == 0
        assert report["pages"] == SIZE // 4096
        assert report["touches"] >= TOUCHES
        assert device.stat("succ_stores") > (SIZE - MEMORY) // 4096 * 3 // 4
        assert device.stat("loads") > 10_000
        assert device.stat("failed_stores") == 0
        assert device.stat("checksum_errors") == 0
        assert device.status()["restarts"] == 0
        if transport == "devfuse":
            assert device.stat("discards") > 0
            wait_until("freed memory to return", lambda: is_returned(device), every_s=0.3)


def test_a_full_pool_keeps_pages_in_memory() -> None:
    """The pool has room for a part of what is to go; the kernel keeps the rest and goes on."""
    options = ("--size", "1G", "--pool-limit", "16M", "--priority", "200")
    with device_up(*options) as device, MemoryCgroup(device.name, 512 * MIB) as cgroup:
        command = command_in(cgroup, 160 * MIB, "--seconds", "6")
        reports: list[dict[str, Any]] = []
        with Popen(command, stdout=PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                reports.append(json.loads(line))
                if reports[-1]["phase"] == "touch":
                    squeeze(cgroup, 48 * MIB)
        assert device.stat("pool_limit_hit") > 0
        assert 0 < device.stat("failed_stores") <= device.stat("pool_limit_hit")
        assert process.returncode == 0
        assert reports[-1]["phase"] == "end"
        assert reports[-1]["bad_pages"] == 0
        assert device.stat("succ_stores") > 16 * MIB // 4096
        assert device.stat("pool_total_size") <= 16 * MIB


def test_zstd_and_a_change_under_way() -> None:
    """Pages stored with one codec are read after the switch to another."""
    options = ("--size", "1G", "--compressor", "zstd:1", "--priority", "200")
    with device_up(*options) as device:
        assert press(device, 192 * MIB, 64 * MIB, "--seconds", "2")["bad_pages"] == 0
        (device.mountpoint / "params" / "compressor").write_text("lz4")
        assert press(device, 192 * MIB, 64 * MIB, "--seconds", "2")["bad_pages"] == 0
        assert device.stat("checksum_errors") == 0
