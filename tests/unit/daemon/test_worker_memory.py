"""What a worker says of memory: of its processes, and of the peak once a second."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys

import pytest
import trio

from fuseswap.cli.status import warnings_of
from fuseswap.daemon.host_watch import HostWatch
from fuseswap.daemon.serving import Serving
from fuseswap.daemon.worker_memory import ALLOWANCE_BYTES, EACH_SEGMENT_BYTES, WorkerMemory
from fuseswap.filesystem.device import Device
from fuseswap.linux.process import own_bytes, own_memory
from fuseswap.units import MIB
from tests.support import pages
from tests.support.memory_stores import SharedMemory


def test_supervisor_and_worker_count_while_there_is_a_supervisor() -> None:
    watch = HostWatch("/nowhere/swapfile")
    watch.look()
    both, own = watch.processes_bytes, own_bytes(os.getpid())
    assert abs(both - own - own_memory(os.getppid()).anonymous) < 8 * MIB, "libraries once"
    watch._parent = os.getpid()  # somebody else's child by now
    watch.look()
    assert abs(watch.processes_bytes - own) < 8 * MIB


def test_a_standby_is_not_another_process_of_its_number() -> None:
    watch = HostWatch("/nowhere/swapfile")
    begun = [sys.executable, "-c", "print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(begun, stdin=pipe, stdout=pipe) as standby:  # ends with its input
        assert standby.stdout
        standby.stdout.readline()  # it has all the memory it will have
        watch.standby_pid = standby.pid
        watch.look()
        assert watch.standby_bytes == own_memory(standby.pid).anonymous > 0
        pid, started = watch._known_standby
        watch._known_standby = pid, started - 1  # the one that was told of began earlier
        watch.look()
        assert watch.standby_bytes == 0


def test_the_loop_device_is_looked_for_only_by_a_worker_that_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel asks it about the file behind the device, and it waits for the feeder's look."""
    watch = HostWatch("/nowhere/swapfile")
    looked: list[str] = []
    monkeypatch.setattr(watch, "_look_for_queue", lambda: looked.append("once"))
    watch.look()
    assert looked == []
    watch.expect_no_faults()
    watch.look()
    assert looked == ["once"]


async def test_housekeeping_notes_the_peak(
    device: Device, autojump_clock: trio.testing.MockClock
) -> None:
    serving = Serving(device, NoTransport(), None, HostWatch("/nowhere/swapfile"))
    frames = device.cache.log.frames
    frames.reserve(5)
    frames.trim(1)
    with trio.move_on_after(1.5):
        await serving.housekeeping()
    assert device.state.peak_bytes == 5 * MIB


class NoTransport:
    """Serves nothing."""

    async def serve(self) -> None:
        await trio.sleep_forever()


class Watched:
    """A device and what the worker says of its memory."""

    def __init__(self, memory: SharedMemory) -> None:
        self.watch = HostWatch("/nowhere/swapfile")
        self.memory = WorkerMemory(self.watch, None)
        self.device = Device(memory.attach(), host=self.memory.numbers())
        self.watch.look()
        self.memory.is_ready()


def test_the_bound_is_what_there_was_and_an_allowance(memory: SharedMemory) -> None:
    watched = Watched(memory)
    device = watched.device
    bound = device.mem_worker_bound()
    assert ALLOWANCE_BYTES < bound - device.mem_worker() < ALLOWANCE_BYTES + 8 * MIB
    # Not from the heap, in which there may be room.
    with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as leak:
        leak[:] = b"x" * len(leak)
        watched.watch.look()
        assert device.mem_worker() > device.mem_worker_bound()
        watched.memory.is_ready()  # paused, and went on: what has leaked is no allowance
        assert device.mem_worker_bound() == bound


def test_what_is_stored_may_take_more(memory: SharedMemory) -> None:
    device = Watched(memory).device
    before = device.mem_worker_bound()
    for page in range(600):  # the columns of the log are made with the first segment
        device.swapfile.write(page * 4096, memoryview(pages.incompressible(page)))
    assert device.mem_worker_bound() == before + EACH_SEGMENT_BYTES * 8


def test_a_hole_in_the_heap_is_no_leak(memory: SharedMemory) -> None:
    watch = HostWatch("/nowhere/swapfile")
    holes = [0]
    device = Device(memory.attach(), host=WorkerMemory(watch, None, lambda: holes[0]).numbers())
    before = device.mem_worker_bound()
    holes[0] = 5 * MIB
    assert device.mem_worker_bound() == before + 5 * MIB


def test_memory_that_does_not_grow_is_that_of_the_processes_and_of_the_heaps_file(
    memory: SharedMemory,
) -> None:
    heap = os.memfd_create("heap")
    os.write(heap, bytes(3 * MIB))
    watch = HostWatch("/nowhere/swapfile")
    watch.look()
    device = Device(memory.attach(), host=WorkerMemory(watch, heap).numbers())
    ready_bytes = device.cache.memory_usage.ready_bytes
    assert device.mem_fixed() == watch.processes_bytes + 3 * MIB + ready_bytes
    os.close(heap)


def test_status_warns_of_a_worker_beyond_its_bound() -> None:
    stats = {"mem_worker": 80 * MIB, "mem_worker_bound": 60 * MIB}
    (warning,) = warnings_of("swap0", stats)
    assert warning == (
        "the worker holds 80M of its own, and should need 60M at most: it leaks; "
        "give it back with: fuseswap restart swap0"
    )
    assert warnings_of("swap0", {**stats, "mem_worker": 60 * MIB}) == []
    assert warnings_of("swap0", {}) == [], "a worker from before it was counted"
