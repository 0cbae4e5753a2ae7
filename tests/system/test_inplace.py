"""The in-place layout on a real file: every block good, every page there, whoever dies."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from time import sleep

import pytest

from fuseswap.host.cgroup import MemoryCgroup
from fuseswap.units import MIB
from tests.devices import TRANSPORTS, TestDevice, device_up, wait_until
from tests.system.fio_jobs import DATA, write_and_verify
from tests.system.test_pressure import command_in

SMALL = ("--size", "64M", "--no-swapon", "--pool-limit", "16M", "--backing-layout", "in-place")
DIRECT = ("--bsrange=4k-1M", "--ioengine=libaio", "--iodepth=32", "--direct=1")
UNALIGNED = ("--bsrange=512-256k", "--ioengine=psync", "--direct=0", "--end_fsync=1")
SWAP = (
    "--size",
    "512M",
    "--pool-limit",
    "16M",
    "--priority",
    "200",
    "--backing-layout",
    "in-place",
)


def set_param(device: TestDevice, name: str, value: str) -> None:
    (device.mountpoint / "params" / name).write_text(value)


def was_replaced(device: TestDevice, times: int) -> bool:
    return int(device.status()["restarts"]) >= times


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("through", ["N", "Y"])
def test_every_block_is_good(tmp_path: Path, transport: str, through: str) -> None:
    backing = ("--backing", str(tmp_path / "backing"))
    with device_up(*SMALL, *backing, transport=transport) as device:
        set_param(device, "max_compression_ratio", "50")
        set_param(device, "writethrough", through)
        write_and_verify(tmp_path, device.loop, *DIRECT, *DATA["incompressible"])
        assert device.stat("in_place_stores") == device.stat("reject_compress_poor") > 10_000
        write_and_verify(tmp_path, device.loop, *DIRECT, *DATA["compressible"])
        write_and_verify(tmp_path, device.loop, *UNALIGNED, *DATA["incompressible"])
        assert device.stat("checksum_errors") == device.stat("failed_requests") == 0
        assert device.stat("failed_stores") == 0
        assert device.stat("pool_total_size") <= 16 * MIB


@pytest.mark.parametrize("kills", [0, 5])
def test_no_bad_page(tmp_path: Path, kills: int) -> None:
    with (
        device_up(*SWAP, "--backing", str(tmp_path / "backing")) as device,
        MemoryCgroup(f"fuseswap-{device.name}", 128 * MIB) as cgroup,
    ):
        set_param(device, "max_compression_ratio", "70")
        command = command_in(cgroup, 384 * MIB, "--seconds", "10")
        with Popen(command, stdout=PIPE, text=True) as process:
            assert process.stdout is not None
            for number in range(kills):
                wait_until("pages in their places", lambda: device.stat("bd_count") > 1000)
                os.kill(device.status()["worker_pid"], signal.SIGKILL)
                sleep(0.5)  # under load, so that the next one dies with work in hand
                wait_until("the next worker", partial(was_replaced, device, number + 1))
            report = process.stdout.read().splitlines()[-1]
        assert process.returncode == 0, report
        assert '"phase": "end"' in report
        assert '"bad_pages": 0' in report
        assert device.stat("checksum_errors") == device.stat("failed_stores") == 0
        assert device.stat("pool_total_size") <= 16 * MIB
        if not kills:
            assert device.stat("written_back_pages") > 10_000
            assert device.stat("in_place_stores") > 0
