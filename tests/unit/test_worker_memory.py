"""What a worker says of memory: of its processes, and of the peak once a second."""

from __future__ import annotations

import os

import pytest
import trio

from fuseswap.device import Device
from fuseswap.host.resident import own_bytes
from fuseswap.units import MIB
from fuseswap.worker import Worker


def test_supervisor_and_worker_count_while_there_is_a_supervisor(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker.__new__(Worker)
    monkeypatch.setattr(worker, "device", device, raising=False)
    worker._supervisor_pid = os.getppid()
    worker._standby_pid = 0
    both, own = worker._mem_fixed(), own_bytes(os.getpid())
    assert abs(both - own - own_bytes(os.getppid())) < 8 * MIB
    worker._supervisor_pid = os.getpid()  # somebody else's child by now
    assert abs(worker._mem_fixed() - own) < 8 * MIB
    assert both > worker._mem_fixed()
    assert worker._note_standby(f"standby {os.getpid()}")
    assert abs(worker._mem_standby() - own) < 8 * MIB
    assert abs(worker._mem_fixed() - 2 * own) < 8 * MIB
    assert not worker._note_standby("pause")


async def test_housekeeping_notes_the_peak(
    device: Device, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker.__new__(Worker)
    monkeypatch.setattr(worker, "device", device, raising=False)
    worker._beats = 0
    frames = device.cache.log.frames
    frames.reserve(5)
    frames.trim(1)
    with trio.move_on_after(1.5):
        await worker._housekeeping()
    assert device.state.peak_bytes == 5 * MIB
