"""The worker: attaches to the shared state and serves it until unmounted.

Started by the supervisor with descriptors it inherits.  Everything that costs memory or
may fail happens before it serves, in two steps:

    `Worker`   what needs no state: imports, plugins, locking.  Another worker may still serve
    `attach`   under the lock of the state: adopt the tables, take a reserve of frames

Pages and segments are counted while it serves (``frontswap/adoption.py``).

A POSIX lock on the header keeps two workers from serving one state, whatever started them.  It
goes with the last thread of a process, and not earlier.  ``worker_process.py`` has what supervisor
and worker say to each other.  A worker whose supervisor has died goes on.  Prepared, it waits for
the lock and attaches.  Serving, it says so in ``state.json``, where `status` and `up` look.

Tasks: those of ``serving.py``, and one that listens to the supervisor.  Threads: the scribe, which
writes the log, and those of recompression and the engine.  Where one fails the worker ends.
"""

from __future__ import annotations

import faulthandler
import fcntl
import gc
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

from fuseswap.daemon import lean

# isort: split
import trio

from fuseswap.daemon import crash_points
from fuseswap.daemon.attachment import TIER, TRACE, Attachment
from fuseswap.daemon.channel import Channel
from fuseswap.daemon.device_files import BACKEND_PREFIX, Settings, attachment_from
from fuseswap.daemon.host_watch import HostWatch
from fuseswap.daemon.memories import Memories
from fuseswap.daemon.orphan import OrphanNote
from fuseswap.daemon.pool_share import PoolShare
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.scribe import Scribe
from fuseswap.daemon.serving import Serving
from fuseswap.daemon.thread_ends import end_with_any_thread
from fuseswap.daemon.worker_log import last_words, open_log
from fuseswap.daemon.worker_memory import WorkerMemory
from fuseswap.daemon.worker_process import STACKS_SIGNAL, WorkerArguments
from fuseswap.daemon.worker_tiers import WorkerTiers
from fuseswap.errors import FuseswapError, HostError, in_words
from fuseswap.filesystem.backends import Backends
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.parameters import restore_parameters
from fuseswap.filesystem.plugged import load_plugged
from fuseswap.filesystem.tree import Tree
from fuseswap.linux import mount, syscalls
from fuseswap.linux.confine import confine, drop_capabilities, try_filter
from fuseswap.linux.heap import Heap, lock_private
from fuseswap.linux.protect import Protection, protect
from fuseswap.store.geometry import RESERVE_FRAMES, Geometry
from fuseswap.store.memory_reserve import FeederThread
from fuseswap.store.region import Region
from fuseswap.store.superblock import REFUSED_CALL_AT, REGION_NAMES, SharedState
from fuseswap.tiers.callbacks import await_callback, result_of
from fuseswap.tiers.io_threads import IoThreads
from fuseswap.tiers.tier import Tier
from fuseswap.tiers.tier_table import names_in
from fuseswap.transport import open_transport
from fuseswap.units import MIB, SEGMENT_SHIFT

log = logging.getLogger("fuseswap.daemon.worker")

_THREAD_STACK_BYTES = 256 * 1024  # resident
_SMALL_HEAP_BYTES = 2 * MIB  # Python's small objects ...
_SEGMENT_BYTES = 256  # ... and of each segment in memory, where all are in line and shared
_LARGE_HEAP_BYTES = 5 * MIB  # replies, and requests that wait
_RUNS_BYTES = 3 * MIB  # pages on their way to a backing file, and from it
_READY_TIMEOUT_S = 5.0
_NOTE_EVERY_S = 0.2


class Unmounted(Exception):
    """The file system is gone, and so is the sense of a worker."""


class Worker:
    """Gets ready over inherited descriptors, attaches to the state, pauses."""

    def __init__(
        self,
        settings: Settings,
        fds: dict[str, int],
        attachments: list[Attachment],
        channel: Channel,
        note_orphaned: Callable[[Protection], bool],
        share: PoolShare,
        *,
        fresh: bool,
        inherits: bool,
        filtered: bool,
        name: str = "",
    ) -> None:
        """Get ready.  Raises `StateMismatch` for a header it does not know; writes nothing.

        ``inherits``: the heap of the worker before is ours, since that is dead.
        ``note_orphaned`` is called, until it says True, when it serves and its supervisor died.
        """
        for fd in fds.values():
            os.set_inheritable(fd, False)
        threading.stack_size(_THREAD_STACK_BYTES)
        self._settings = settings
        self._fds = fds
        self._channel = channel
        self._note_orphaned = note_orphaned
        self._share, self._name = share, name
        self._inherited_heap = fds.get("heap") if inherits else None
        importlib.import_module(f"fuseswap.transport.{settings.transport}")
        self._plugged = load_plugged()
        allowed = try_filter() if settings.seccomp and filtered else None
        lean.trim()
        self._protection = protect(populate=True, adoptable=True)
        drop_capabilities()
        segments = max(settings.pool_limit_bytes >> SEGMENT_SHIFT, share.most_frames())
        self._heap = Heap(_SMALL_HEAP_BYTES + segments * _SEGMENT_BYTES)
        self._heap_is_filled = False
        self._thread = IoThreads(1)  # for recompression
        self._watch = HostWatch(settings.swapfile)
        self._memory = WorkerMemory(self._watch, fds.get("heap"), lambda: self._heap.hole_bytes)
        chores = (self._watch.look, self._heap.top_up, share.look)
        self._feeder = FeederThread(chores=chores, errand=share.look)
        self._feeder.start()
        self._serving: Serving | None = None
        self._regions = {name: Region(fd) for name, fd in fds.items() if name in REGION_NAMES}
        self._memories = Memories(fds)
        for one in attachments:
            self._memories.hold(one)
        if settings.memory != "memfd":  # nothing else keeps that in memory
            self._regions["arena"].unlock()
        self._state = None if fresh else SharedState(self._regions)
        self._tiers = WorkerTiers(settings, fds, attachments, self._inherited_heap)
        gc.collect()
        gc.freeze()
        lock_private()
        self._heap.reserve()
        if allowed:
            confine(allowed, self._regions["header"].address + REFUSED_CALL_AT)
            self._protection = self._protection._replace(seccomp=True)
            self._watch.is_filtered = True

    @property
    def _backends(self) -> Backends | None:
        return self._serving.device.backends if self._serving else None

    def wait_for_turn(self) -> str:
        """What its supervisor says first, but for what may be said at any time."""
        while self._note(word := self._channel.hear_first()):
            continue
        return word

    def attach(self, *, strictly: bool = False, untold: bool = False) -> None:
        """Build the device from the state, once no other worker serves it, and say so.

        ``strictly``: `InvalidArgument` where a parameter can't be set.  ``untold``: there is no
        supervisor that has told us to.

        At real-time priority, until it serves: what it may still allocate, a page table or
        trio's sockets, the kernel has kept for such threads (``watermarks.py``).
        Raises `Unmounted` where there is nothing to serve any more.
        """
        syscalls.set_real_time(True)
        fcntl.lockf(self._fds["header"], fcntl.LOCK_EX)
        self._fill_heap()
        if not mount.is_connected(self._fds["fuse"]):
            raise Unmounted
        if self._state is None:
            self._state = SharedState.create(self._regions, Geometry(*self._settings.geometry))
        self._state.repair()
        self._tiers.key = self._state.key
        if self._tiers.is_needed:
            self._tiers.open_engine()
        tiers = self._tiers.tiers(names_in(self._state.tier_names) if untold else None)
        device = self._device(self._state, tiers, strictly=strictly)
        transport = open_transport(
            self._settings.transport,
            self._fds["fuse"],
            self._settings.mountpoint,
            Tree(device),
            resend=self._settings.resend != "off",
        )
        balance = partial(self._share.serve, device, self._feeder.ask)
        self._serving = Serving(device, transport, self._tiers.engine, self._watch, balance)
        gc.freeze()
        gc.disable()
        self._memory.is_ready()
        self._channel.say_ready(self._protection)

    def _device(self, state: SharedState, tiers: list[Tier], *, strictly: bool) -> Device:
        """With its parameters set, and all resident that requests need."""
        device = Device(
            state,
            tiers,
            lambda: self._watch.is_under_pressure,
            self._tiers.engine,
            self._tiers.place_file(),
            lazy=True,
            submit=self._thread.submit,
            feeder=self._feeder,
            ready_frames=RESERVE_FRAMES,
            host=self._memory.numbers(self._share.is_active, self._name),
            training_memory=self._heap,
            plugged=self._plugged,
            memories=self._memories.regions,
        )
        for name in device.tiers.missing():
            log.error("tier '%s' is not there: what is on it can't be read", name)
        kept = {**self._settings.parameters, **state.parameters, **self._share.parameters()}
        restore_parameters(device, kept, strictly=strictly)
        self._memories.trace.go_on(device)
        device.warm_up()
        # Before anything is served: the reserve, or as much of it as there is memory for.
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not device.memory.is_reserved() and time.monotonic() < deadline:
            time.sleep(0.0005)
        return device

    def _fill_heap(self) -> None:
        """Before anything else is allocated; once, since another may have the file later."""
        if not self._heap_is_filled:
            self._heap_is_filled = True
            more = _RUNS_BYTES if self._tiers.is_needed else 0
            self._heap.fill(_LARGE_HEAP_BYTES + more, self._inherited_heap)

    def run(self) -> None:
        """After `attach`: serve until unmounted, or until another has taken over."""
        while self._serving and trio.run(self._serving.run, self._listen):
            self._pause()

    async def _listen(self, scope: trio.CancelScope) -> None:
        """Hear what the supervisor says until it says ``pause``, or dies."""
        while True:
            await trio.lowlevel.wait_readable(self._channel.socket)
            word = self._channel.hear()
            if word == "pause":
                scope.cancel()
                return
            if not word:
                while not self._note_orphaned(self._protection):
                    await trio.sleep(_NOTE_EVERY_S)
                return
            await self._react(word)

    def _note(self, word: str) -> bool:
        """Take what is told at any time, while this one does not serve; False for other words."""
        said, _, rest = word.partition(" ")
        if said == "standby":
            self._watch.standby_pid = int(rest)
        elif said == "take":
            try:
                one = self._tiers.take(rest, self._channel.take_descriptors())
                self._memories.hold(one, self._backends)
                self._tiers.import_for(one)  # not while nobody serves
            except HostError as exc:
                log.error("%s", exc)
        elif said == "drop":
            self._memories.forget(rest)
            self._tiers.drop(rest)
        return said in ("standby", "take", "drop")

    async def _react(self, word: str) -> None:
        """As `_note`, while this one serves; what came of an attachment is answered."""
        said, _, rest = word.partition(" ")
        if said == "take":
            await self._add(rest)
        elif said == "drop":
            self._remove(rest)
        else:
            self._note(word)

    async def _add(self, text: str) -> None:
        """Once its descriptors have their numbers another supervisor would find them.

        So nothing is done where the last one had died before.
        """
        name, error = "", ""
        try:
            one = self._tiers.take(text, self._channel.take_descriptors())
            name = one.name
            if self._channel.is_cut():
                error = "the supervisor has died meanwhile"
            elif name.startswith(BACKEND_PREFIX):
                self._memories.hold(one, self._backends)
            elif name == TRACE and self._serving:
                await self._memories.trace_on(self._serving.device, one, self._thread.submit)
            elif not self._tiers.is_ready:
                submit = partial(self._thread.submit, self._tiers.get_ready)
                error = await await_callback(submit)
                self._heap.keep_ahead(_LARGE_HEAP_BYTES + _RUNS_BYTES)
            is_new = name.startswith(TIER) and self._serving and self._serving.lacks(one.tier_name)
            if self._serving and is_new and not error and self._tiers.is_makeable(one):
                make = partial(self._tiers.try_tier, one)
                tier = result_of(await await_callback(partial(self._thread.submit, make)))
                self._serving.add(tier, self._tiers.engine, one.description.get("policy", ()))
        except (FuseswapError, OSError) as exc:
            error = in_words(exc)
        if error:
            log.error("not attached: %s", error)
            self._tiers.drop(name)
        self._channel.answer("take", name, error or None)

    def _remove(self, name: str) -> None:
        error = None
        try:
            if self._serving and name.startswith(TIER):
                self._serving.remove(name.removeprefix(TIER))
            self._memories.drop(name, self._serving.device if self._serving else None)
            self._tiers.drop(name)
        except FuseswapError as exc:
            error = str(exc)
        self._channel.answer("drop", name, error)

    def _pause(self) -> None:
        """Leave the state alone until told to continue, or until no supervisor is left to tell us.

        If the supervisor dies now, the lock decides who goes on: the other one while it lives.
        """
        self._tiers.close()
        self._feeder.forget()  # what it makes would be given back by a pool that is no more
        fcntl.lockf(self._fds["header"], fcntl.LOCK_UN)
        self._channel.say("paused")
        while self._note(word := self._channel.hear()):
            continue
        self._serving = None  # derived from what was; another may have changed it
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self.attach(untold=not word)


def _serve(arguments: WorkerArguments, channel: Channel, scribe: Scribe) -> int:
    """Get ready, wait for the turn of this one, serve; its exit code."""
    runtime = Runtime(arguments.name)
    try:
        crash_points.arm(os.environ.get(crash_points.VARIABLE, ""))
        note = OrphanNote(runtime, scribe)
        worker = Worker(
            arguments.settings(runtime),
            arguments.fds,
            [attachment_from(one, "an attachment") for one in arguments.attachments or []],
            channel,
            note.take,
            PoolShare.of(runtime),
            fresh=arguments.fresh,
            inherits=arguments.config is not None,
            filtered=arguments.filtered,
            name=arguments.name,
        )
        scribe.start()
        channel.say("prepared")
        word = worker.wait_for_turn()
        if not word.startswith("attach") and arguments.fresh:
            return 1  # nobody knows of what this one would make
        worker.attach(strictly=word == "attach strictly", untold=not word)
    except Unmounted:
        return 0
    except (FuseswapError, OSError) as exc:
        log.error("cannot start: %s", in_words(exc))
        channel.complain(in_words(exc))
        return 1
    worker.run()
    return 0


def main() -> int:
    """``python -m fuseswap.daemon.worker JSON``, which is `WorkerArguments`."""
    os.umask(0o077)
    arguments = WorkerArguments.parse(sys.argv[1])
    scribe = open_log()
    end_with_any_thread()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the supervisor decides when to stop
    # Without the interpreter lock, and without memory: it is asked for by who is about to kill.
    faulthandler.register(STACKS_SIGNAL)
    channel = Channel(arguments.fds["channel"], arguments.fds.get("go"))
    try:
        code = _serve(arguments, channel, scribe)
    except BaseException as exc:
        last_words(scribe, exc)
        os._exit(1)  # at once: the lock goes with this process
    scribe.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
