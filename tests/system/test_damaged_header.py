"""Bits of the shared header turn over: the next worker puts one right, and refuses two."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from fuseswap.device_files import DeviceState
from fuseswap.host.runtime import Runtime
from tests.devices import TestDevice, call, device_up, leftovers, wait_until, worker_of

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

    def settled(self) -> bytes:
        """Geometry and session."""
        return os.pread(self._fd, 512, 0)

    def close(self) -> None:
        os.close(self._fd)


def state(device: TestDevice) -> DeviceState:
    """What the supervisor last wrote: to ask the device itself would wait for a worker."""
    return Runtime(device.name).state()


def kill_worker(device: TestDevice) -> None:
    os.kill(worker_of(device.name), signal.SIGKILL)


def test_one_bit_a_record_is_put_right_and_two_are_refused() -> None:
    """Without a standby, which looked at the header earlier and so puts more right."""
    with device_up("--size", "64M", "--no-swapon", "--standby", "off") as device:
        with open(device.swapfile, "r+b", buffering=0) as file:
            file.write(DATA)
        header = Header(device)
        before = header.settled()
        header.flip(17, 4)  # pages of the swapfile
        header.flip(264, 1)  # flags of the session
        kill_worker(device)
        wait_until("the next worker", lambda: state(device).restarts == 1)
        assert device.swapfile.read_bytes()[: len(DATA)] == DATA
        assert header.settled() == before

        header.flip(17, 3)
        kill_worker(device)
        wait_until("degraded", lambda: state(device).status == "degraded", timeout_s=60)
        done = call("restart", device.name)
        assert done.returncode == 2
        assert "the geometry is damaged; nothing was touched" in done.stderr
        header.flip(17, 3)
        assert call("restart", device.name).returncode == 0
        assert device.swapfile.read_bytes()[: len(DATA)] == DATA
        header.close()
    assert leftovers(device.name, str(device.mountpoint)) == []
