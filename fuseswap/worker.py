"""The worker: attaches to the shared state and serves it until unmounted.

Started by the supervisor with descriptors it inherits.  Everything that costs memory or
may fail happens before it serves, in two steps: what needs no state (`Worker`: imports,
locking, a look at the header) while another worker may still serve, then `attach`, under
the lock of the state: adopting the tables, a reserve of frames.  What has to be counted in
them is counted while it serves (``cache/recovery.py``).

The lock, a POSIX lock on the header, is what keeps two workers from serving one state,
whoever started them: it goes with the last thread of a process, and not earlier.  What
supervisor and worker say to each other is in ``worker_process.py``.  A worker whose
supervisor has died goes on: prepared, it waits for the lock and attaches; serving, it says
in ``state.json`` that it does, where `status` and `up` look.

Tasks: the transport, writeback, recompression, merging, AIO, housekeeping, and one that
listens to the supervisor.  Threads: the scribe (``scribe.py``), which writes all that is
logged, and those of recompression and the engine.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import json
import logging
import mmap
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from fuseswap import lean

# isort: split
import trio

from fuseswap import crashpoints, libc
from fuseswap.cache.feeder import FeederThread
from fuseswap.cache.frames import RESERVE_FRAMES
from fuseswap.cache.region import Region
from fuseswap.cache.state import REGION_NAMES, SEGMENT_SHIFT, Geometry, SharedState
from fuseswap.device import Device
from fuseswap.errors import FuseswapError
from fuseswap.host import mount
from fuseswap.host.heap import HEAP_FILE_BYTES, Heap, lock_private
from fuseswap.host.protect import Protection, protect
from fuseswap.host.runtime import Runtime
from fuseswap.host_watch import HostWatch
from fuseswap.orphan import OrphanNote
from fuseswap.parameters import find_parameter
from fuseswap.scribe import Scribe
from fuseswap.tiers.buffers import BUFFER_BYTES, Buffers
from fuseswap.tiers.direct import DirectFile, Engine, open_engine
from fuseswap.tiers.faults import with_faults
from fuseswap.tiers.file import FileTier
from fuseswap.tiers.threads import IoThreads
from fuseswap.transport import Transport, open_transport
from fuseswap.tree import Tree
from fuseswap.units import MIB
from fuseswap.worker_log import last_words, open_log
from fuseswap.worker_memory import WorkerMemory

log = logging.getLogger("fuseswap.worker")

_THREAD_STACK_BYTES = 256 * 1024  # resident
_SMALL_HEAP_BYTES = 3 * MIB  # Python's small objects ...
_SEGMENT_BYTES = 256  # ... and of each segment in memory, where all are in line and shared
_LARGE_HEAP_BYTES = 5 * MIB  # replies, and requests that wait
_RUNS_BYTES = 3 * MIB  # pages on their way to a backing file, and from it
_READY_TIMEOUT_S = 5.0
_HOUSEKEEPING_S = 1.0
_NOTE_EVERY_S = 0.2
_IDLE_STORES = 100  # fewer in a second: the device is idle, however often it is looked at


class Unmounted(Exception):
    """The file system is gone, and so is the sense of a worker."""


class Channel:
    """The worker's end of the channel to its supervisor."""

    def __init__(self, fd: int, go: int | None = None) -> None:
        self.socket = socket.socket(fileno=fd)
        self._go = go  # an older supervisor, which goes on through an upgrade, has none

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

    def hear_first(self) -> str:
        """As `hear`; ``attach`` comes as an event (``worker_process.py``)."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if self._go is not None:
            poll.register(self._go, select.POLLIN)
        ready = [fd for fd, _ in poll.poll()]
        return "attach" if self._go in ready else self.hear()


class Worker:
    """Builds the layers over inherited descriptors and runs them."""

    def __init__(
        self,
        config: dict[str, Any],
        fds: dict[str, int],
        channel: Channel,
        note_orphaned: Callable[[Protection], bool] = lambda protection: True,
        *,
        fresh: bool,
        inherits: bool = True,
    ) -> None:
        """Get ready.  Raises `StateMismatch` for a header it does not know; writes nothing.

        ``inherits``: the worker before is dead, so its heap is ours; not where it hands over.
        ``note_orphaned`` is called, until it says True, when this one serves and its supervisor
        has died.
        """
        for fd in fds.values():
            os.set_inheritable(fd, False)
        threading.stack_size(_THREAD_STACK_BYTES)
        self._config = config
        self._fds = fds
        self.channel = channel
        importlib.import_module(f"fuseswap.transport.{config['transport']}")
        lean.trim()
        self.protection: Protection = protect(populate=True)
        segments = int(config["parameters"]["pool_limit_bytes"]) >> SEGMENT_SHIFT
        self._heap = Heap(_SMALL_HEAP_BYTES + segments * _SEGMENT_BYTES)
        self._heap_is_filled = False
        self._thread = IoThreads(1)  # for recompression
        self._host = HostWatch(f"{config['mountpoint']}/swapfile")
        self._feeder = FeederThread()
        self._feeder.chores = [self._host.look]
        self._feeder.start()
        self._regions = {name: Region(fd) for name, fd in fds.items() if name in REGION_NAMES}
        if config.get("memory") != "memfd":  # nothing else keeps that in memory
            self._regions["arena"].unlock()
        self._state = None if fresh else SharedState(self._regions)
        self._engine: Engine | None = self._open_engine()
        self._beats = 0
        self._memory = WorkerMemory()
        self._inherits = inherits
        self._note_orphaned = note_orphaned
        gc.collect()
        gc.freeze()
        lock_private()

    def _open_engine(self) -> Engine | None:
        return with_faults(open_engine()) if "backing" in self._fds else None

    def attach(self) -> None:
        """Build the device from the state, once nobody else serves it, and say so.

        At real-time priority, until it serves: what it may still allocate, a page table or
        trio's sockets, the kernel has kept for such threads (``watermarks.py``).
        Raises `Unmounted` where there is nothing to serve any more.
        """
        libc.set_real_time(True)
        config = self._config
        fcntl.lockf(self._fds["header"], fcntl.LOCK_EX)
        if not mount.is_connected(self._fds["fuse"]):
            raise Unmounted
        if self._state is None:
            self._state = SharedState.create(self._regions, Geometry(**config["geometry"]))
        self._state.mend()
        self._fill_heap()
        tier: FileTier | None = None
        place_file: DirectFile | None = None
        if "backing" in self._fds:
            self._engine = self._engine or self._open_engine()
            assert self._engine
            file = DirectFile(self._fds["backing"], self._engine, self._buffers())
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
        self.device.recompression.give_back = self._heap.give_back
        self.device.memory.count_faults = lambda: self._host.faults
        self.device.mem_standby = lambda: self._host.standby_bytes
        for name, value in {**config["parameters"], **self._state.parameters}.items():
            find_parameter(name).set(self.device, value)
        self.device.warm_up()
        self._fill_reserve()
        self._transport: Transport = open_transport(
            config["transport"],
            self._fds["fuse"],
            config["mountpoint"],
            Tree(self.device),
            resend=config["resend"] != "off",
        )
        gc.freeze()
        gc.disable()
        self._memory.watch(self.device, self._host)
        self.channel.say("ready", protection=self.protection._asdict())

    def _fill_heap(self) -> None:
        """Before the first device is built; once, since another may have the file later."""
        if not self._heap_is_filled:
            self._heap_is_filled = True
            more = _RUNS_BYTES if "backing" in self._fds else 0
            self._heap.fill(
                _LARGE_HEAP_BYTES + more, self._fds.get("heap") if self._inherits else None
            )
            self._feeder.chores.append(self._heap.top_up)

    def _buffers(self) -> Buffers:
        """For a backing file, in the same shared memory as the heap, or in some of their own."""
        fd = self._fds.get("heap") if self._inherits else None
        if fd is None:
            return Buffers()
        memory = mmap.mmap(fd, BUFFER_BYTES, offset=HEAP_FILE_BYTES)
        libc.populate_write(ctypes.addressof(ctypes.c_char.from_buffer(memory)), BUFFER_BYTES)
        return Buffers(memory=memory)

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
                nursery.start_soon(self._listen, nursery.cancel_scope)
                libc.set_real_time(False)
                await self._transport.serve()
                paused = False
                nursery.cancel_scope.cancel()
            outer.cancel_scope.cancel()
        return paused

    async def _listen(self, scope: trio.CancelScope) -> None:
        """Hear what the supervisor says until it says ``pause``, or dies."""
        while True:
            await trio.lowlevel.wait_readable(self.channel.socket)
            word = self.channel.hear()
            if word == "pause":
                scope.cancel()
                return
            if not word:
                while not self._note_orphaned(self.protection):
                    await trio.sleep(_NOTE_EVERY_S)
                return
            self._note_standby(word)

    def _note_standby(self, word: str) -> bool:
        """Take ``standby N``; False for any other word."""
        said, _, pid = word.partition(" ")
        if said == "standby":
            self._host.standby_pid = int(pid)
        return said == "standby"

    def _pause(self) -> None:
        """Leave the state alone until told to continue, or until nobody is left to tell us.

        If the supervisor dies now, the lock decides who goes on: the other one while it lives.
        """
        if self._engine is not None:
            self._engine.close()  # what is in flight ends before another may write there
            self._engine = None
        self._feeder.forget()  # what it makes would be given back by a pool that is no more
        fcntl.lockf(self._fds["header"], fcntl.LOCK_UN)
        self.channel.say("paused")
        while self._note_standby(self.channel.hear()):
            continue
        del self.device, self._transport  # derived from what was; another may have changed it
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self.attach()

    def _mem_fixed(self) -> int:
        """Memory of the processes that serve, and what is kept ready for stores."""
        heap = os.fstat(self._fds["heap"]).st_blocks * 512 if "heap" in self._fds else 0
        return self._host.processes_bytes + heap + self.device.cache.footprint.ready_bytes

    async def _housekeeping(self) -> None:
        """Once a second: say that we live, and note how much memory is used.

        While idle, return frames and collect garbage.
        """
        frames = self.device.cache.log.frames
        before = -1
        self._host.expect_no_faults()
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


def _serve(arguments: dict[str, Any], channel: Channel, scribe: Scribe) -> int:
    """Get ready, wait for the turn of this one, serve; its exit code."""
    fds, fresh = arguments["fds"], arguments["fresh"]
    runtime = Runtime(arguments["name"])
    try:
        crashpoints.arm(os.environ.get(crashpoints.VARIABLE, ""))
        note = OrphanNote(runtime, scribe)
        config = arguments["config"] or runtime.config()
        inherits = arguments["config"] is not None
        worker = Worker(config, fds, channel, note.take, fresh=fresh, inherits=inherits)
        scribe.start()
        channel.say("prepared")
        if channel.hear_first() != "attach" and fresh:
            return 1  # nobody knows of what this one would make
        worker.attach()
    except Unmounted:
        return 0
    except (FuseswapError, OSError) as exc:
        log.error("cannot start: %s", exc)
        channel.complain(str(exc))
        return 1
    worker.run()
    return 0


def main() -> int:
    """``python -m fuseswap.worker JSON``: ``name, directory, config, fds, fresh``."""
    arguments = json.loads(sys.argv[1])
    scribe = open_log()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the supervisor decides when to stop
    channel = Channel(arguments["fds"]["channel"], arguments["fds"].get("go"))
    try:
        code = _serve(arguments, channel, scribe)
    except BaseException as exc:
        last_words(scribe, exc)
        os._exit(1)  # at once: the lock goes with this process
    scribe.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
