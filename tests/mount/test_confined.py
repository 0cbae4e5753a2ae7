"""A worker that is prepared may do little, and one that tries more is replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux.confine import KEPT
from tests.support.mounted_devices import (
    SOURCE,
    TestDevice,
    device_up,
    standby_of,
    succeed,
    wait_until,
    worker_of,
)

_PAGE = os.urandom(4096)
# Python imports it before anything else; a device under test heeds the path.
_TRY = """
import signal, socket
def _connect(number, frame):
    socket.socket(socket.AF_INET)
with open("/proc/self/cmdline") as words:
    if "fuseswap.daemon.worker" in words.read().split(chr(0)):
        signal.signal(signal.SIGUSR2, _connect)
"""


def fields(pid: int, thread: str) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/task/{thread}/status").read_text().splitlines()
    return {name: rest.strip() for name, _, rest in (line.partition(":") for line in lines)}


def is_confined(pid: int) -> bool:
    for thread in os.listdir(f"/proc/{pid}/task"):
        found = fields(pid, thread)
        if (found["Seccomp"], found["NoNewPrivs"]) != ("2", "1"):
            return False
        if int(found["CapEff"], 16) & ~KEPT or int(found["CapPrm"], 16) & ~KEPT:
            return False
    return True


@pytest.fixture
def confined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestDevice]:
    (tmp_path / "sitecustomize.py").write_text(_TRY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{SOURCE}")
    with device_up("--size", "64M", "--no-swapon", "--testing") as device:
        yield device


def test_worker_and_standby_may_do_little(confined: TestDevice) -> None:
    assert is_confined(worker_of(confined.name))
    assert is_confined(standby_of(confined.name))


def test_a_call_too_many_is_logged_and_the_worker_replaced(confined: TestDevice) -> None:
    fd = os.open(confined.swapfile, os.O_RDWR)
    try:
        assert os.pwrite(fd, _PAGE, 0) == 4096
        os.kill(worker_of(confined.name), signal.SIGUSR2)
        wait_until("another worker", lambda: confined.status()["restarts"] == 1)
        assert os.pread(fd, 4096, 0) == _PAGE
    finally:
        os.close(fd)
    log = Runtime(confined.name).log_path.read_text()
    assert "a system call that it may not make" in log
    assert "in _connect" in log
    assert is_confined(worker_of(confined.name))


def serves(device: TestDevice, pid: int) -> bool:
    return Runtime(device.name).state().worker_pid == pid


def test_after_two_in_a_row_the_next_goes_on_without_it(confined: TestDevice) -> None:
    """Each of its pages is there; `restart` tries again."""
    fd = os.open(confined.swapfile, os.O_RDWR)
    try:
        for restarts in (1, 2):
            page = os.urandom(4096)
            assert os.pwrite(fd, page, 4096 * restarts) == 4096
            standby = standby_of(confined.name)
            os.kill(worker_of(confined.name), signal.SIGUSR2)
            wait_until("the one that was prepared", partial(serves, confined, standby))
            assert os.pread(fd, 4096, 4096 * restarts) == page
        worker = worker_of(confined.name)
        assert fields(worker, str(worker))["Seccomp"] == "0"
        os.kill(worker, signal.SIGUSR2)  # now it may
        assert os.pread(fd, 4096, 8192) == page
        why = "worker was killed for a call that is not allowed: socket"
        wait_until("its name", lambda: confined.status()["seccomp"] == f"off ({why})")
        assert confined.stat("seccomp") == 0
        assert f"seccomp: off ({why})" in succeed("status", confined.name)
        assert why in Runtime(confined.name).log_path.read_text()
        assert confined.status()["restarts"] == 2

        succeed("restart", confined.name)
        assert is_confined(worker_of(confined.name))
        assert confined.status()["seccomp"] == "on"
        assert confined.stat("seccomp") == 1
        assert os.pread(fd, 4096, 8192) == page
    finally:
        os.close(fd)


def test_it_can_be_left_off() -> None:
    with device_up("--size", "64M", "--no-swapon", "--seccomp", "off") as device:
        assert fields(worker_of(device.name), str(worker_of(device.name)))["Seccomp"] == "0"
        assert device.status()["seccomp"] == "off"
