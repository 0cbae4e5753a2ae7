"""The worker: attaches to the shared state and serves it until unmounted.

Started by the supervisor with descriptors it inherits.  Everything that costs memory or
may fail happens before it serves, in two steps: what needs no state (`Worker`: imports,
locking, a look at the header) while another worker may still serve, then `attach`, under
the lock of the state: adopting the tables, a reserve of frames.  What has to be counted in
them is counted while it serves (``cache/recovery.py``).

The lock, a POSIX lock on the header, is what keeps two workers from serving one state,
whoever started them: it goes with the last thread of a process, and not earlier.  What
supervisor and worker say to each other is in ``worker_process.py``.

Tasks: the transport, writeback, recompression, merging, AIO, housekeeping, and one that waits
for ``pause``.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

import trio

from fuseswap import crashpoints
from fuseswap.cache.feeder import FeederThread
from fuseswap.cache.frames import RESERVE_FRAMES
from fuseswap.cache.region import Region
from fuseswap.cache.state import REGION_NAMES, SEGMENT_SHIFT, Geometry, SharedState
from fuseswap.device import Device
from fuseswap.errors import FuseswapError
from fuseswap.host.heap import Heap, lock_private
from fuseswap.host.protect import Protection, protect
from fuseswap.host.runtime import Runtime
from fuseswap.host_watch import HostWatch
from fuseswap.parameters import find_parameter
from fuseswap.tiers.direct import DirectFile, Engine, open_engine
from fuseswap.tiers.faults import with_faults
from fuseswap.tiers.file import FileTier
from fuseswap.tiers.threads import IoThreads
from fuseswap.transport import Transport, open_transport
from fuseswap.tree import Tree
from fuseswap.units import MIB
from fuseswap.worker_memory import WorkerMemory

log = logging.getLogger("fuseswap.worker")

_THREAD_STACK_BYTES = 256 * 1024  # resident
_SMALL_HEAP_BYTES = 3 * MIB  # Python's small objects ...
_SEGMENT_BYTES = 256  # ... and of each segment in memory, where all are in line and shared
_LARGE_HEAP_BYTES = 4 * MIB  # replies, and writes that wait
_READY_TIMEOUT_S = 5.0
_HOUSEKEEPING_S = 1.0
_IDLE_STORES = 100  # fewer in a second: the device is idle, however often it is looked at


class Channel:
    """The worker's end of the channel to its supervisor."""

    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(fileno=fd)

    def say(self, word: str, **more: Any) -> None:
        """One word; a supervisor that has died does not stop us."""
        self._send({"word": word, **more})

    def complain(self, reason: str) -> None:
        """Why there will be no word."""
        self._send({"error": reason})

    def _send(self, packet: dict[str, Any]) -> None:
        try:
            self.socket.send(json.dumps(packet).encode())
        except OSError as exc:
            log.error("the supervisor does not listen: %s", exc)

    def hear(self) -> str:
        """The next word, "" where the supervisor has died; waits for it."""
        try:
            return self.socket.recv(64).decode()
        except OSError:
            return ""


class Worker:
    """Builds the layers over inherited descriptors and runs them."""

    def __init__(
        self, config: dict[str, Any], fds: dict[str, int], channel: Channel, *, fresh: bool
    ) -> None:
        """Get ready.  Raises `StateMismatch` for a header it does not know; writes nothing."""
        for fd in fds.values():
            os.set_inheritable(fd, False)
        threading.stack_size(_THREAD_STACK_BYTES)
        self._config = config
        self._fds = fds
        self.channel = channel
        importlib.import_module(f"fuseswap.transport.{config['transport']}")
        segments = int(config["parameters"]["pool_limit_bytes"]) >> SEGMENT_SHIFT
        self._heap = Heap(_SMALL_HEAP_BYTES + segments * _SEGMENT_BYTES)
        self.protection: Protection = protect(populate=True)
        self._heap.extend(_LARGE_HEAP_BYTES)
        self._thread = IoThreads(1)  # for recompression
        self._host = HostWatch(f"{config['mountpoint']}/swapfile")
        self._feeder = FeederThread()
        self._feeder.chores = [self._heap.top_up, self._host.look]
        self._feeder.start()
        self._regions = {name: Region(fd) for name, fd in fds.items() if name in REGION_NAMES}
        self._state = None if fresh else SharedState(self._regions)
        self._engine: Engine | None = None
        self._beats = 0
        self._memory = WorkerMemory()
        gc.collect()
        gc.freeze()
        lock_private()

    def attach(self) -> None:
        """Build the device from the state, once nobody else serves it, and say so."""
        config = self._config
        fcntl.lockf(self._fds["header"], fcntl.LOCK_EX)
        if self._state is None:
            self._state = SharedState.create(self._regions, Geometry(**config["geometry"]))
        self._state.mend()
        tier: FileTier | None = None
        place_file: DirectFile | None = None
        if "backing" in self._fds:
            self._engine = with_faults(open_engine())
            file = DirectFile(self._fds["backing"], self._engine)
            if config["backing_layout"] == "in-place":
                place_file = file
            else:
                tier = FileTier(file)
        self.device = Device(
            self._state,
            tier,
            lambda: self._host.is_under_pressure,
            self._engine,
            place_file,
            lazy=True,
            submit=self._thread.submit,
            feeder=self._feeder,
            ready_frames=RESERVE_FRAMES,
        )
        self.device.mem_fixed = self._mem_fixed
        self.device.memory.count_faults = lambda: self._host.faults
        for name, value in {**config["parameters"], **self._state.parameters}.items():
            find_parameter(name).set(self.device, value)
        self._fill_reserve()
        self.device.warm_up()
        self._transport: Transport = open_transport(
            config["transport"],
            self._fds["fuse"],
            config["mountpoint"],
            Tree(self.device),
            resend=config["resend"] != "off",
        )
        gc.freeze()
        gc.disable()
        lock_private()
        self._host.expect_no_faults()
        self._memory.watch(self.device, self._host)
        self.channel.say("ready", protection=self.protection._asdict())

    def _fill_reserve(self) -> None:
        """Before anything is served: have the reserve, or as much as there is memory for."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not self.device.memory.is_reserved() and time.monotonic() < deadline:
            time.sleep(0.0005)

    def run(self) -> None:
        """Serve until unmounted, or until another has taken over."""
        while trio.run(self._serve_until_paused):
            self._pause()

    async def _serve_until_paused(self) -> bool:
        """True: told to pause; requests that were waiting are dropped, unanswered."""
        paused = True
        async with trio.open_nursery() as outer:
            if self._engine is not None:  # to the end: a write in flight can't be cancelled
                outer.start_soon(self._engine.run)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._housekeeping)
                nursery.start_soon(self.device.memory.run)
                nursery.start_soon(self.device.writeback.run)
                nursery.start_soon(self.device.recompression.run)
                nursery.start_soon(self.device.merging.run)
                nursery.start_soon(self._wait_for_pause, nursery.cancel_scope)
                await self._transport.serve()
                paused = False
                nursery.cancel_scope.cancel()
            outer.cancel_scope.cancel()
        return paused

    async def _wait_for_pause(self, scope: trio.CancelScope) -> None:
        await trio.lowlevel.wait_readable(self.channel.socket)
        if self.channel.hear() == "pause":
            scope.cancel()

    def _pause(self) -> None:
        """Leave the state alone until told to continue, or until nobody is left to tell us.

        If the supervisor dies now, the lock decides who goes on: the other one while it lives.
        """
        if self._engine is not None:
            self._engine.close()  # what is in flight ends before another may write there
        fcntl.lockf(self._fds["header"], fcntl.LOCK_UN)
        self.channel.say("paused")
        self.channel.hear()
        del self.device, self._transport  # derived from what was; another may have changed it
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self.attach()

    def _mem_fixed(self) -> int:
        """Memory of the processes that serve, and what is kept ready for stores."""
        return self._host.processes_bytes + self.device.cache.footprint.ready_bytes

    async def _housekeeping(self) -> None:
        """Once a second: say that we live, and note how much memory is used.

        While idle, return frames and collect garbage.
        """
        frames = self.device.cache.log.frames
        before = -1
        while True:
            await trio.sleep(_HOUSEKEEPING_S)
            self._beats += 1
            self.device.state.note_alive(self._beats)
            self.device.cache.footprint.note_peak()
            stores = self.device.frontswap.statistics().succ_stores
            if stores - before < _IDLE_STORES:
                frames.trim(max(frames.ready, frames.warm // 2))
                self.device.cache.slots.trim()
                self.device.cache.dedup.trim()
                gc.collect(1)
            self.device.memory.queue_file = self._host.queue_file
            before = stores


def main() -> int:
    """``python -m fuseswap.worker JSON`` with ``name``, ``fds`` and ``fresh``."""
    arguments = json.loads(sys.argv[1])
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s worker[%(process)d] %(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides when to stop
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = Channel(arguments["fds"]["channel"])
    try:
        crashpoints.arm(os.environ.get(crashpoints.VARIABLE, ""))
        config = Runtime(arguments["name"]).config()
        worker = Worker(config, arguments["fds"], channel, fresh=arguments["fresh"])
        channel.say("prepared")
        if channel.hear() != "attach":
            return 1
        worker.attach()
    except (FuseswapError, OSError) as exc:
        log.error("cannot start: %s", exc)
        channel.complain(str(exc))
        return 1
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
