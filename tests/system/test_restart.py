"""``fuseswap restart``: another worker takes over under load, or the old one goes on."""

from __future__ import annotations

import itertools
import json
import mmap
import os
import re
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import swap_area
from fuseswap.linux.json_file import write_json
from fuseswap.store.checked_record import CHECK_BYTES, sealed
from fuseswap.units import PAGE_SIZE
from tests.support.mounted_devices import (
    TestDevice,
    call,
    device_up,
    strangers_elsewhere,
    succeed,
    wait_until,
    worker_of,
)
from tests.system.hard_times import verified_load

SIZE = ("--size", "64M", "--no-swapon")
VERSION_AT = 8  # of the layout, in the header: see store/superblock.py
GEOMETRY_BYTES = 40


def break_import(device: TestDevice) -> Callable[[], None]:
    """There is no such transport."""
    return break_config(device, transport="none")


def break_attach(device: TestDevice) -> Callable[[], None]:
    """The new worker fails half-way: it has sealed and freed segments by then."""
    parameters = Runtime(device.name).config().parameters
    return break_config(device, parameters={**parameters, "compressor": "none"})


def break_config(device: TestDevice, **wrong: object) -> Callable[[], None]:
    runtime = Runtime(device.name)
    right = runtime.config().to_json()
    write_json(runtime.config_path, {**right, **wrong})
    return lambda: write_json(runtime.config_path, right)


def break_layout(device: TestDevice) -> Callable[[], None]:
    """The new worker knows another layout than the state has."""
    pid = worker_of(device.name)
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    number = json.loads(words[-2])["fds"]["header"]
    with open(f"/proc/{pid}/fd/{number}", "r+b", buffering=0) as file:
        header = mmap.mmap(file.fileno(), 2 * PAGE_SIZE)
    right = header[:GEOMETRY_BYTES]
    other = bytearray(right)
    struct.pack_into("<I", other, VERSION_AT, 1 + struct.unpack_from("<I", right, VERSION_AT)[0])

    def write(geometry: bytes) -> None:
        for copy in (0, PAGE_SIZE):
            header[copy : copy + GEOMETRY_BYTES + CHECK_BYTES] = sealed(geometry)

    write(bytes(other))
    return lambda: write(right)


@pytest.mark.no_swap
def test_five_times_under_load(tmp_path: Path) -> None:
    with device_up(*SIZE) as device:
        succeed("set", device.name, "busy_poll_us=77")
        workers = [device.info["worker_pid"]]
        with verified_load(device, tmp_path):
            for _ in range(5):
                said = succeed("restart", device.name)
                workers.append(worker_of(device.name))
                handed_over = f"{device.name}: worker {workers[-2]} replaced by {workers[-1]}, "
                assert re.fullmatch(handed_over + r"pause \d+ ms\n", said)
        assert len(set(workers)) == 6
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers[:-1])
        status = device.status()
        assert (status["restarts"], status["params"]["busy_poll_us"]) == (5, "77")


@pytest.mark.no_swap
def test_the_old_worker_goes_on(tmp_path: Path) -> None:
    with device_up(*SIZE) as device:
        worker = device.info["worker_pid"]
        with verified_load(device, tmp_path):
            for break_it, _ in itertools.product((break_import, break_attach, break_layout), "12"):
                mend = break_it(device)
                done = call("restart", device.name)
                assert (done.returncode, done.stdout) == (2, "")
                assert len(done.stderr.splitlines()) == 1
                assert f"worker {worker} goes on" in done.stderr
                mend()
            assert device.status()["worker_pid"] == worker
            succeed("restart", device.name)
        assert device.status()["restarts"] == 1


@pytest.mark.no_swap
def test_pyfuse3_cannot() -> None:
    with device_up(*SIZE, transport="pyfuse3") as device:
        done = call("restart", device.name)
        assert done.returncode == 2
        assert "pyfuse3" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert device.status()["worker_pid"] == device.info["worker_pid"]


def test_degraded_keeps_everything_until_mended() -> None:
    """Eight failures, then nothing is lost, refused or taken down until it works again."""
    page = os.urandom(4096)
    options = ("--size", "64M", "--priority", "0", "--standby", "off")
    with strangers_elsewhere(), device_up(*options) as device:
        with open(device.swapfile, "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), page, 16 << 20)
        mend = break_layout(device)
        try:
            check_degraded(device)
        finally:  # or its swap could not be taken down
            mend()
            served = call("restart", device.name)
        assert (served.returncode, "serves again" in served.stdout) == (0, True), served
        with open(device.swapfile, "rb", buffering=0) as file:
            assert os.pread(file.fileno(), 4096, 16 << 20) == page


def check_degraded(device: TestDevice) -> None:
    """Kill the worker, and see what can and can't be done with no other in its place."""
    runtime = Runtime(device.name)
    os.kill(device.info["worker_pid"], signal.SIGKILL)
    # It pauses for 12.7 s in all between its tries.
    wait_until("it to give up", lambda: runtime.state().status == "degraded", 120.0)
    status = device.status()
    assert "has layout" in status["reason"]
    # Null everywhere: `kill -9 0` would end the caller.
    assert status["worker_pid"] is None
    assert runtime.state().worker_pid is None
    assert json.loads(succeed("up", device.name, "--json"))["worker_pid"] is None
    table = succeed("status", device.name)
    assert "degraded" in table
    assert "has layout" in table

    down = call("down", device.name)
    assert down.returncode == 2
    assert f"fuseswap restart {device.name}" in down.stderr
    os.kill(device.info["supervisor_pid"], signal.SIGTERM)
    again = call("restart", device.name)
    assert again.returncode == 2
    assert "has layout" in again.stderr
    wait_until("the refusal to be logged", lambda: "in use" in runtime.log_path.read_text())
    assert swap_area.area_of(device.loop) is not None
