"""A worker dies, or hangs, in the middle of the work: another goes on, and nobody notices."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from fuseswap.linux.cgroup import MemoryCgroup
from fuseswap.units import MIB
from tests.support.mounted_devices import call, device_up, worker_of
from tests.system.hard_times import send_worker, verified_load

DEADLY = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGSTOP)


@pytest.mark.no_swap
@pytest.mark.parametrize("backing", [False, True], ids=("memory", "backing"))
def test_under_verified_load(tmp_path: Path, backing: bool) -> None:
    """With a backing file, segments are on their way to it when the worker dies."""
    options = ("--size", "64M", "--no-swapon", "--watchdog", "3")
    tier = ("--pool-limit", "16M", "--backing", str(tmp_path / "backing")) if backing else ()
    with device_up(*options, *tier) as device:
        with verified_load(device, tmp_path):
            for number in DEADLY:
                send_worker(device.name, number)
        assert device.status()["restarts"] == len(DEADLY)
        assert device.stat("checksum_errors") == 0


def test_under_memory_pressure() -> None:
    """What a process finds in its pages that were swapped out, with the worker shot again and
    again; a stopped worker stops the process as well, so the watchdog decides when it goes on."""
    size, memory = 384 * MIB, 128 * MIB
    with device_up("--size", "1G", "--priority", "200", "--watchdog", "3") as device:
        with MemoryCgroup(f"fuseswap-{device.name}", memory) as cgroup:
            enter = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(cgroup.path / "cgroup.procs")]
            press = [sys.executable, "-m", "fuseswap.cli.pressure"]
            press += ["--size", str(size), "--seconds", "2"]
            with Popen([*enter, *press], stdout=PIPE, text=True) as process:
                assert process.stdout is not None
                lines = iter(process.stdout)
                next(lines)
                for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL):
                    send_worker(device.name, number)
                report = json.loads([*lines][-1])
        assert (report["phase"], report["bad_pages"]) == ("end", 0)
        assert report["pages"] == size // 4096
        assert device.status()["restarts"] == 3


def test_a_stopped_worker_does_not_stop_down() -> None:
    """Without a watchdog nobody else would let it go on."""
    with device_up("--size", "64M", "--watchdog", "0") as device:
        pid = worker_of(device.name)
        os.kill(pid, signal.SIGSTOP)
        assert call("down", device.name).returncode == 0
