"""The first worker is told to die at a step of a store, and fio notices nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseswap.daemon.crash_points import VARIABLE
from fuseswap.daemon.runtime_dir import Runtime
from tests.support.mounted_devices import call, device_up, new_name, taken_down
from tests.system.fio_jobs import fio

pytestmark = pytest.mark.no_swap

DEEP = ("--ioengine=libaio", "--iodepth=16", "--direct=1", "--bsrange=4k-64k", "--randseed=7")
VERIFY = ("--rw=randwrite", "--size=48M", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1")
OVERWRITE = ("--loops=2", "--norandommap=0")

# Far enough into it that fio has pages to lose.
POINTS = [
    "store-release:3000",
    "store-append:9000",
    "append-tail:9000",
    "store-commit:9000",
    "open-commit:20",
    "free-commit:10",
    "load-mark:2000",
]


@pytest.mark.parametrize("point", POINTS)
def test_no_block_is_bad_and_one_worker_was_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, point: str
) -> None:
    monkeypatch.setenv(VARIABLE, point)
    with device_up("--size", "64M", "--no-swapon") as device:
        fio(tmp_path, device.loop, *VERIFY, *DEEP, *OVERWRITE)
        assert device.status()["restarts"] == 1
        assert device.stat("checksum_errors") == device.stat("failed_requests") == 0


def test_at_steps_of_writeback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, "flip-commit:5")
    options = ("--size", "64M", "--no-swapon", "--pool-limit", "16M")
    with device_up(*options, "--backing", str(tmp_path / "backing")) as device:
        fio(tmp_path, device.loop, *VERIFY, *DEEP)
        assert device.status()["restarts"] == 1
        assert device.stat("checksum_errors") == device.stat("failed_requests") == 0
        assert device.stat("written_back_pages") > 0


def test_an_unknown_point_is_one_line_and_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "nowhere")
    name = new_name()
    with taken_down(name):
        done = call("up", name, "--size", "64M", "--no-swapon")
        assert done.returncode == 32
        assert "FUSESWAP_CRASH_POINT=nowhere names no crash point" in done.stderr
        assert not Runtime(name).directory.exists()
