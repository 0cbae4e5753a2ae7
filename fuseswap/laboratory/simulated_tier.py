"""A tier with the delays of another: what a simulation writes to.

A read or a write takes a time of its own, and its bytes pass one after the other at the bandwidth.
Each ends in its own time, so they may end in another order.  A segment is looked at twice while it
is written, as a slow device may do.  Segments are in a file without a name in ``TMPDIR``, so that
memory does not grow with them.
"""

from __future__ import annotations

import errno
import heapq
import os
import tempfile
from collections.abc import Callable
from math import inf
from typing import NamedTuple

import trio

from fuseswap.laboratory.fault_schedule import Fault, FaultSchedule
from fuseswap.linux.syscalls import punch_hole
from fuseswap.tiers.tier import Read, Written
from fuseswap.units import SEGMENT_BYTES

_HALF = SEGMENT_BYTES // 2


class TierModel(NamedTuple):
    """What a tier is like; times in seconds, bandwidth in bytes a second."""

    size_bytes: int
    read_s: float = 0.0001
    write_s: float = 0.0001
    bandwidth: float = 500e6
    is_remote: bool = False
    faults: tuple[str, ...] = ()  # kinds that happen where the simulation has a seed for them


class SimulatedTier:
    """See `fuseswap.tiers.tier.Tier`."""

    read_unit = 1
    volatile = False
    is_readable = False

    def __init__(self, name: str, model: TierModel, faults: FaultSchedule) -> None:
        self.name = name
        self.is_remote = model.is_remote
        self.extent_count = model.size_bytes // SEGMENT_BYTES
        self.is_at_fault = False  # whether it has ever failed, forgotten or lied
        self._model = model
        self._faults = faults
        self._file, path = tempfile.mkstemp(prefix="fuseswap-")
        os.unlink(path)
        self._is_there = bytearray(self.extent_count)
        self._free_at = 0.0  # of the way its bytes go
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._began = 0
        self._changed = trio.Event()
        self._wakes_at = inf  # the task looks then, if not told before

    def begin_write(self, extent: int, generation: int, segment: memoryview, done: Written) -> None:
        """See `Tier`."""
        first = bytes(segment[:_HALF])
        fault = self._faults.draw(trio.current_time())

        def end() -> None:
            if fault.fails:
                done(OSError(errno.EIO, "a fault of the schedule"))
                return
            if fault.forgets:
                self._forget(extent)
            else:
                os.pwritev(self._file, (first, segment[_HALF:]), extent * SEGMENT_BYTES)
                self._is_there[extent] = 1
            done(None)

        self._after(self._model.write_s, SEGMENT_BYTES, fault, end)

    def begin_read(
        self, extent: int, generation: int, offset: int, length: int, done: Read
    ) -> None:
        """See `Tier`."""
        fault = self._faults.draw(trio.current_time())

        def end() -> None:
            if fault.forgets:
                self._forget(extent)
            if fault.fails:
                done(OSError(errno.EIO, "a fault of the schedule"))
            elif not self._is_there[extent]:
                done(OSError(errno.ENODATA, "forgotten"))
            else:
                done(self._bytes(extent, offset, length, fault))

        self._after(self._model.read_s, length, fault, end)

    def _bytes(self, extent: int, offset: int, length: int, fault: Fault) -> bytes:
        found = os.pread(self._file, length, extent * SEGMENT_BYTES + offset)
        if fault.lie is None:
            return found
        at = int(fault.lie * length)
        return found[:at] + bytes([found[at] ^ 0x10]) + found[at + 1 :]

    def close(self) -> None:
        """The file is gone."""
        os.close(self._file)

    def set_timeout(self, seconds: float) -> None:
        """See `Tier`: as of a file, not heeded."""

    def offset_of(self, extent: int, offset: int) -> int | None:
        """See `Tier`."""
        return extent * SEGMENT_BYTES + offset

    def release(self, extent: int, generation: int) -> None:
        """See `Tier`."""
        self._forget(extent)

    async def run(self) -> None:
        """End what is due, in its time."""
        while True:
            self._wakes_at = self._due[0][0] if self._due else inf
            self._changed = trio.Event()
            with trio.move_on_at(self._wakes_at):
                await self._changed.wait()
            while self._due and self._due[0][0] <= trio.current_time():
                heapq.heappop(self._due)[2]()

    def _after(self, latency_s: float, length: int, fault: Fault, end: Callable[[], None]) -> None:
        """Call ``end`` when it has taken its time."""
        now = trio.current_time()
        self._free_at = max(self._free_at, now) + length / self._model.bandwidth
        self._began += 1
        self.is_at_fault |= fault.fails or fault.forgets or fault.lie is not None
        due = self._free_at + latency_s + fault.stall_s
        heapq.heappush(self._due, (due, self._began, end))
        if due < self._wakes_at:
            self._changed.set()

    def _forget(self, extent: int) -> None:
        if self._is_there[extent]:
            self._is_there[extent] = 0
            punch_hole(self._file, extent * SEGMENT_BYTES, SEGMENT_BYTES)
