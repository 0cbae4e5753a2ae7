"""What a worker says of memory: of its processes, and of the peak once a second."""

from __future__ import annotations

import os

import pytest
import trio

from fuseswap.device import Device
from fuseswap.host.resident import own_bytes
from fuseswap.host_watch import HostWatch
from fuseswap.units import MIB
from fuseswap.worker import Worker


def test_supervisor_and_worker_count_while_there_is_a_supervisor() -> None:
    watch = HostWatch("/nowhere/swapfile")
    watch.look()
    both, own = watch.processes_bytes, own_bytes(os.getpid())
    assert abs(both - own - own_bytes(os.getppid())) < 8 * MIB
    watch._parent = os.getpid()  # somebody else's child by now
    watch.look()
    assert abs(watch.processes_bytes - own) < 8 * MIB


async def test_housekeeping_notes_the_peak(
    device: Device, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker.__new__(Worker)
    monkeypatch.setattr(worker, "device", device, raising=False)
    worker._beats = 0
    worker._host = HostWatch("/nowhere/swapfile")
    frames = device.cache.log.frames
    frames.reserve(5)
    frames.trim(1)
    with trio.move_on_after(1.5):
        await worker._housekeeping()
    assert device.state.peak_bytes == 5 * MIB
