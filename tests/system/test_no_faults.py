"""Once it is ready the serving thread asks the kernel for no memory: page faults are counted.

Every kind of request, in memory and with a backing file in each layout.  A first round takes each
pool of buffers, and the heap, to where that kind of work needs it; in the second there is no
fault of the thread and no growth of the address space.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import syscalls
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.mounted_devices import TestDevice, device_up, wait_until, worker_of

SPAN = 96 * MIB
# A page that the kernel moves, to make room for a large one, is a fault too, and takes no memory:
# such a time is not every time.
ROUNDS = 3
MOST_FAULTS = 3  # of 19 000 requests
LAYOUTS = {
    "none": ("--pool-limit", "200M"),
    "packed": ("--pool-limit", "32M", "--backing-layout", "packed"),
    "in-place": ("--pool-limit", "32M", "--backing-layout", "in-place"),
}


def faults(pid: int) -> dict[int, int]:
    """Minor and major faults of each thread (fields 10 and 12) that waits for nobody's memory.

    The feeder waits for memory so that no other has to; it alone has real-time priority.
    """
    found = {}
    for thread in map(int, os.listdir(f"/proc/{pid}/task")):
        text = Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()
        if os.sched_getscheduler(thread) != os.SCHED_RR:
            found[thread] = int(text[7]) + int(text[9])
    return found


def serving_faults(pid: int) -> int:
    return faults(pid)[pid]


def address_space_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * PAGE_SIZE


class Work:
    """Requests of every kind, on the swapfile and beside it."""

    def __init__(self, device: TestDevice) -> None:
        self._device = device
        self._chance = random.Random(1)
        self._bodies = [make(n) for n in range(40) for make in (pages.compressible,)]
        self._bodies += [pages.incompressible(n) for n in range(10)]
        self._number = 0

    def _data(self, size: int) -> bytes:
        found = []
        for _ in range(size // PAGE_SIZE):
            self._number += 1
            body = self._chance.choice(self._bodies)
            found.append(self._number.to_bytes(8, "little") + body[8:])
        return b"".join(found)

    def _at(self, size: int) -> int:
        return self._chance.randrange((SPAN - size) // PAGE_SIZE) * PAGE_SIZE

    def all(self) -> None:
        """Everything, in turn; errors are answers too."""
        with open(self._device.swapfile, "r+b", buffering=0) as file:
            fd = file.fileno()
            for size, count in ((PAGE_SIZE, 4000), (8 * PAGE_SIZE, 300), (MIB, 24)):
                for _ in range(count):
                    os.pwrite(fd, self._data(size), self._at(size))
                for _ in range(count):
                    os.pread(fd, size, self._at(size))
            for _ in range(200):
                os.pwrite(fd, b"part of a page", self._at(PAGE_SIZE) + 100)
                syscalls.punch_hole(fd, self._at(PAGE_SIZE), PAGE_SIZE)
                syscalls.punch_hole(fd, self._at(PAGE_SIZE) + 100, 50)
            for _ in range(4):
                syscalls.punch_hole(fd, self._at(2 * MIB), 2 * MIB)
            os.lseek(fd, 0, os.SEEK_HOLE)
            os.fsync(fd)
        for _ in range(3):
            (self._device.mountpoint / "metrics").read_bytes()
            for entry in (self._device.mountpoint / "stats").iterdir():
                entry.read_bytes()
            os.statvfs(self._device.mountpoint)
            with pytest.raises(OSError, match="Invalid argument"):
                (self._device.mountpoint / "params" / "busy_poll_us").write_text("many")
            with pytest.raises(FileNotFoundError):
                (self._device.mountpoint / "nothing").read_bytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_request_takes_memory(layout: str, tmp_path: Path) -> None:
    options = ["--size", "256M", "--no-swapon", *LAYOUTS[layout]]
    if layout != "none":
        options += ["--backing", str(tmp_path / "backing")]
    with device_up(*options) as device:
        worker = device.info["worker_pid"]
        work = Work(device)
        for _ in range(2):
            work.all()
        time.sleep(1.5)  # the feeder looks at the heap once a second
        size = address_space_bytes(worker)
        found: list[int] = []
        while len(found) < ROUNDS and min(found, default=MOST_FAULTS + 1) > MOST_FAULTS:
            before = serving_faults(worker)
            for _ in range(2):
                work.all()
            found.append(serving_faults(worker) - before)
        assert address_space_bytes(worker) == size
        assert min(found) <= MOST_FAULTS, found
        assert device.info["worker_pid"] == device.status()["worker_pid"]
        if layout != "none":
            assert device.stat("tier_loads") > 1000
            assert device.stat("written_back_pages") > 1000
        told = device.stat("serving_faults")
        wait_until("the statistic", lambda: device.stat("serving_faults") == told)


def test_a_death_takes_no_memory() -> None:
    """Neither of the supervisor, nor, when that dies too, of the worker: not a page of a stack."""
    with device_up("--size", "64M", "--no-swapon", "--pool-limit", "32M") as device:
        runtime = Runtime(device.name)
        supervisor, worker = device.info["supervisor_pid"], device.info["worker_pid"]
        before = faults(supervisor)
        os.kill(worker, signal.SIGKILL)
        wait_until("another worker", lambda: runtime.state().worker_pid not in (None, worker))
        worker = worker_of(device.name)
        wait_until("another standby", lambda: runtime.state().standby_pid not in (None, worker))
        assert faults(supervisor) == before
        with open(device.swapfile, "r+b", buffering=0) as file:
            file.write(bytes(PAGE_SIZE))
        before = faults(worker)
        noted = runtime.state_path.stat().st_ino
        os.kill(supervisor, signal.SIGKILL)
        wait_until("its note", lambda: runtime.state_path.stat().st_ino != noted)
        assert faults(worker) == before
        assert len(before) > 2
