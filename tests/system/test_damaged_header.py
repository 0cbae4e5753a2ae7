"""The shared header is damaged: the next worker writes one copy anew, and refuses without any."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from fuseswap.daemon.device_files import DeviceState
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.units import PAGE_SIZE
from tests.support.mounted_devices import (
    TestDevice,
    call,
    device_up,
    leftovers,
    wait_until,
    worker_of,
)

pytestmark = pytest.mark.no_swap

DATA = os.urandom(1 << 20)


class Header:
    """The header of a device, through a descriptor of its supervisor's memory."""

    def __init__(self, device: TestDevice) -> None:
        pid = worker_of(device.name)
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        fds = json.loads(words[-2])["fds"]
        self._fd = os.open(f"/proc/{pid}/fd/{fds['header']}", os.O_RDWR)

    def flip(self, at: int, bits: int) -> None:
        """Turn ``bits`` of the byte at ``at`` over."""
        (byte,) = os.pread(self._fd, 1, at)
        os.pwrite(self._fd, bytes([byte ^ bits]), at)

    def flip_both(self, at: int, bits: int) -> None:
        """The same in both copies."""
        for copy in (0, PAGE_SIZE):
            self.flip(copy + at, bits)

    def settled(self) -> bytes:
        """Geometry and session, twice."""
        return os.pread(self._fd, 512, 0) + os.pread(self._fd, 512, PAGE_SIZE)

    def close(self) -> None:
        os.close(self._fd)


def state(device: TestDevice) -> DeviceState:
    """What the supervisor last wrote: to ask the device itself would wait for a worker."""
    return Runtime(device.name).state()


def kill_worker(device: TestDevice) -> None:
    os.kill(worker_of(device.name), signal.SIGKILL)


def test_one_copy_is_written_anew_and_none_is_refused() -> None:
    """Without a standby, which looked at the header earlier and so knows more of it."""
    with device_up("--size", "64M", "--no-swapon", "--standby", "off") as device:
        with open(device.swapfile, "r+b", buffering=0) as file:
            file.write(DATA)
        header = Header(device)
        before = header.settled()
        header.flip(17, 7)  # pages of the swapfile
        header.flip(PAGE_SIZE + 264, 7)  # flags of the session
        kill_worker(device)
        wait_until("the next worker", lambda: state(device).restarts == 1)
        assert device.swapfile.read_bytes()[: len(DATA)] == DATA
        assert header.settled() == before

        header.flip_both(17, 3)
        kill_worker(device)
        wait_until("degraded", lambda: state(device).status == "degraded", timeout_s=60)
        done = call("restart", device.name)
        assert done.returncode == 2
        assert "the geometry is damaged; nothing was touched" in done.stderr
        header.flip_both(17, 3)
        assert call("restart", device.name).returncode == 0
        assert device.swapfile.read_bytes()[: len(DATA)] == DATA
        header.close()
    assert leftovers(device.name, str(device.mountpoint)) == []
