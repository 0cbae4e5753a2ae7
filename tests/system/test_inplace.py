"""The in-place layout on a real file: every block good, every page there, whoever dies."""

from __future__ import annotations

import os
import random
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fuseswap.units import MIB
from tests.support.mounted_devices import TRANSPORTS, TestDevice, device_up, wait_until
from tests.system.fio_jobs import DATA, write_and_verify
from tests.system.test_pressure import press
from tests.system.under_pressure import pressure_on

SMALL = ("--size", "64M", "--no-swapon", "--pool-limit", "16M", "--backing-layout", "in-place")
DIRECT = ("--bsrange=4k-1M", "--ioengine=libaio", "--iodepth=32", "--direct=1")
UNALIGNED = ("--bsrange=512-256k", "--ioengine=psync", "--direct=0", "--end_fsync=1")
SWAP = (
    "--size",
    "1G",
    "--pool-limit",
    "16M",
    "--priority",
    "200",
    "--backing-layout",
    "in-place",
)
PRESSURE = (384 * MIB, 128 * MIB)


def set_param(device: TestDevice, name: str, value: str) -> None:
    (device.mountpoint / "params" / name).write_text(value)


def was_replaced(device: TestDevice, times: int) -> bool:
    return int(device.status()["restarts"]) >= times


@pytest.mark.no_swap
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


def check_whole(device: TestDevice, report: dict[str, Any]) -> None:
    assert report["bad_pages"] == 0
    assert device.stat("checksum_errors") == device.stat("failed_stores") == 0
    assert device.stat("pool_total_size") <= 16 * MIB


def test_no_bad_page(tmp_path: Path) -> None:
    with device_up(*SWAP, "--backing", str(tmp_path / "backing")) as device:
        set_param(device, "max_compression_ratio", "70")
        report = press(device, *PRESSURE, "--seconds", "3600", "--touches", "25000")
        check_whole(device, report)
        assert device.stat("written_back_pages") > 10_000
        assert device.stat("in_place_stores") > 0


def test_no_bad_page_whoever_dies(tmp_path: Path) -> None:
    with device_up(*SWAP, "--backing", str(tmp_path / "backing")) as device:
        set_param(device, "max_compression_ratio", "70")
        with pressure_on(device, *PRESSURE) as pressure:
            for number in range(5):
                wait_until("pages in their places", lambda: device.stat("bd_count") > 1000)
                # With work in hand: counters begin at 0 with each worker.
                wait_until("requests", lambda: device.stat("requests") > 3000)
                os.kill(device.status()["worker_pid"], signal.SIGKILL)
                wait_until("the next worker", partial(was_replaced, device, number + 1))
            report = pressure.finish()
        check_whole(device, report)


@pytest.mark.parametrize("encrypt", [True, False])
def test_pages_on_the_file_can_be_read_only_where_that_was_asked_for(
    tmp_path: Path, encrypt: bool
) -> None:
    path = tmp_path / "backing"
    path.touch()
    os.truncate(path, 66 * MIB)  # so that it stays
    text = str(path) if encrypt else f"{path},encrypt=no"
    secret = os.urandom(24)
    noise = random.Random(5)
    data = b"".join(secret + noise.randbytes(4096 - len(secret)) for _ in range(64))
    with device_up(*SMALL, "--backing", text) as device:
        set_param(device, "max_compression_ratio", "50")
        with open(device.mountpoint / "swapfile", "r+b", buffering=0) as swapfile:
            os.pwrite(swapfile.fileno(), data, MIB)
            os.fsync(swapfile.fileno())
            assert device.stat("in_place_stores") == 64
            assert (secret in path.read_bytes()) != encrypt
            os.kill(int(device.status()["worker_pid"]), signal.SIGKILL)
            wait_until("the worker is replaced", partial(was_replaced, device, 1))
            assert os.pread(swapfile.fileno(), len(data), MIB) == data
        assert device.stat("checksum_errors") == 0
    assert path.stat().st_size == 66 * MIB
    assert secret not in path.read_bytes()  # discarded, or without a key
