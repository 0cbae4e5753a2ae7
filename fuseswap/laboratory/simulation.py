"""One run of a trace through a real device in virtual time.

The device is `filesystem/device.py`'s, over memory files, with the tasks that a worker runs beside
requests.  Tiers are simulated (``simulated_tier.py``), and so is what asks: the kernel, as far as
it matters here.  It has `MOST_IN_FLIGHT` requests at once, and waits for a page that is under way.
It loads no page whose store has not ended, since that is in its swap cache.

An event begins at its time, or as soon as it may.  Times within `QUANTUM_S` begin together.
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import trio

from fuseswap.codecs.registry import FILL
from fuseswap.errors import Deferred, StoreRefused, kept
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.discards import Unfinished
from fuseswap.filesystem.parameters import find_parameter
from fuseswap.filesystem.plugged import NOTHING_PLUGGED, Plugged
from fuseswap.frontswap.trace_ring import DISCARD, LOAD
from fuseswap.laboratory import virtual_time
from fuseswap.laboratory.contents import Contents, half_word
from fuseswap.laboratory.fault_schedule import FaultSchedule
from fuseswap.laboratory.oracle import SAME_FILLED, Oracle, Version, WrongPage
from fuseswap.laboratory.sim_config import SimConfig
from fuseswap.laboratory.sim_results import Results
from fuseswap.laboratory.simulated_thread import SimulatedThread
from fuseswap.laboratory.simulated_tier import SimulatedTier
from fuseswap.laboratory.trace_extent import Extent
from fuseswap.laboratory.trace_format import INCOMPRESSIBLE, Event
from fuseswap.laboratory.trace_format import SAME_FILLED as SAME_FILLED_CLASS
from fuseswap.linux import shared_memory
from fuseswap.store.geometry import RESERVE_FRAMES, Geometry
from fuseswap.store.region import Region
from fuseswap.store.slot_word import is_object, length_of
from fuseswap.store.superblock import SharedState
from fuseswap.tiers.tier_reader import TierLoad
from fuseswap.units import MIB, PAGE_SHIFT, PAGE_SIZE, SEGMENT_BYTES, PageNumber

MOST_IN_FLIGHT = 128  # as a loop device has
QUANTUM_S = 0.0005
_HOUSEKEEPING_S = 1.0
_STEP_NS = 1 << 60  # a discard takes a step by pages, never by the time on the wall
_SAMPLES = 10
_LOOKS = 60  # a second apart, for writes that are under way at the end
_PATIENCE_S = 300.0  # for a request that is under way; a read is tried for 30 s


@contextmanager
def memory_device(
    config: SimConfig, page_count: int, thread: SimulatedThread, plugged: Plugged
) -> Iterator[Device]:
    """A fresh device over memory that goes with it."""
    size = config.size_bytes or page_count << PAGE_SHIFT
    extents = sum(model.size_bytes // SEGMENT_BYTES for model in config.tiers.values())
    memory = config.pool_limit_bytes + 64 * MIB
    geometry = Geometry.for_size(max(size, MIB), memory, extents)
    _, files = shared_memory.create_files(geometry.region_bytes(), "memfd")
    state = SharedState.create({name: Region(fd) for name, fd in files.items()}, geometry)
    device = Device(state, submit=thread.submit, ready_frames=RESERVE_FRAMES, plugged=plugged)
    thread.serve(device.recompression.thread)
    try:
        device.frontswap.invalidation.step_ns = _STEP_NS
        yield device
    finally:
        gc.collect()  # tracebacks of errors hold views of the arena
        device.cache.close()
        state.close()
        for fd in files.values():
            os.close(fd)


def simulate(
    events: Callable[[], Iterable[Event]],
    config: SimConfig,
    extent: Extent,
    seed: int = 0,
    faults: int | None = None,
    plugged: Plugged = NOTHING_PLUGGED,
) -> Results:
    """Run ``events``, which have ``extent``, through a device of ``config``.

    ``seed`` orders tasks; ``faults`` is the seed of what goes wrong, None: nothing.  ``plugged``:
    policies that ``config`` may select.  Raises `WrongPage` where a load gives what it may not.
    """
    began = time.process_time()
    gain = extent.gain_percent if config.gain_percent is None else config.gain_percent
    thread = SimulatedThread(config.recompress_s)
    with memory_device(config, extent.pages, thread, plugged) as device:
        one = _Run(device, config, extent.seconds, faults, Contents(gain), thread)
        try:
            virtual_time.run(partial(one.run, events), seed)
        finally:
            one.close()
        results = one.results
    results.processor_s = time.process_time() - began
    return results


class _Run:
    """Of one device."""

    def __init__(
        self,
        device: Device,
        config: SimConfig,
        seconds: float,
        faults: int | None,
        contents: Contents,
        thread: SimulatedThread,
    ) -> None:
        self._device = device
        self._config = config
        self._seconds = seconds
        self._pages = device.state.geometry.page_count
        self.results = Results(config.name)
        self._tiers = [
            SimulatedTier(name, model, FaultSchedule(faults, name, model.faults))
            for name, model in config.tiers.items()
        ]
        self._names: dict[int, str] = {}
        self._contents = contents
        self._thread = thread
        self._oracle = Oracle(
            self._pages, lambda: any(tier.is_at_fault for tier in self._tiers), contents
        )
        self._busy: dict[int, bool] = {}  # pages under way; True: a store
        self._changed = trio.Event()
        self._failure: list[Exception] = []
        self._free_at = 0.0  # of the worker

    def close(self) -> None:
        """Files of tiers are gone."""
        for tier in self._tiers:
            tier.close()

    async def run(self, events: Callable[[], Iterable[Event]]) -> None:
        """To the end of ``events``, and of what they began.  One error is raised, not a group."""
        try:
            await self._run(events)
        except BaseExceptionGroup as group:
            found: BaseException = group
            while isinstance(found, BaseExceptionGroup):
                found = found.exceptions[0]
            raise found from None

    async def _run(self, events: Callable[[], Iterable[Event]]) -> None:
        device, config = self._device, self._config
        async with trio.open_nursery() as nursery:
            for tier in self._tiers:
                entry = device.add_tier(tier, config.policies[tier.name])
                self._names[entry.number] = tier.name
                nursery.start_soon(tier.run)
            for name, text in config.parameters.items():
                find_parameter(name).set(device, text)
            for task in device.tasks():
                nursery.start_soon(task)
            nursery.start_soon(self._keep_house)
            nursery.start_soon(self._thread.run)
            self._began = trio.current_time()
            for event in events():
                await self._begin(event)
            await self._wait_while(lambda: bool(self._busy))
            self._finish()
            await self._check_extents()
            nursery.cancel_scope.cancel()

    async def _begin(self, event: Event) -> None:
        due = self._began + event.time_ns * 1e-9
        now = trio.current_time()
        if due - now > QUANTUM_S:
            await trio.sleep_until(due)
            now = trio.current_time()
        if event.page >= self._pages:
            return
        if event.kind == DISCARD:
            await self._discard(event)
            return
        if event.page in self._busy:
            if event.kind == LOAD and self._busy[event.page]:
                self.results.swap_cache += 1
                return
            await self._wait_while(lambda: event.page in self._busy)
            now = trio.current_time()
        if len(self._busy) >= MOST_IN_FLIGHT:
            await self._wait_while(lambda: len(self._busy) >= MOST_IN_FLIGHT)
            now = trio.current_time()
        if event.kind == LOAD:
            self._load(event.page, now)
        else:
            self._store(event, now)

    async def _wait_while(self, condition: Callable[[], bool]) -> None:
        with trio.move_on_after(_PATIENCE_S) as scope:
            while condition() and not self._failure:
                self._changed = trio.Event()
                await self._changed.wait()
        if scope.cancelled_caught:
            some = sorted(self._busy)[:5]
            raise WrongPage(f"{len(self._busy)} requests are not answered, of pages {some} too")
        if self._failure:
            raise self._failure[0]

    def _work(self, began: float, cost_s: float) -> float:
        """The worker works so long from ``began``, one after the other; until when."""
        free_at = self._free_at
        self._free_at = free_at = (free_at if free_at > began else began) + cost_s
        return free_at

    # -- loads -------------------------------------------------------------------------

    def _load(self, page: int, began: float) -> None:
        until = self._work(began, self._config.load_s)
        try:
            found = self._device.swapfile.read(page << PAGE_SHIFT, PAGE_SIZE)
        except Deferred as exc:
            tried = kept(exc)
        except Exception as exc:
            self._loaded(page, until - began, "memory", kept(exc))
            return
        else:
            self._loaded(page, until - began, self._place(page), found)
            return
        where = f"tier {self._tier_name(tried)}"
        self._busy[page] = False
        ended = partial(self._loaded_later, page, began, until, where)
        self._device.pending_io.begin_read(page << PAGE_SHIFT, PAGE_SIZE, ended, tried)

    def _place(self, page: int) -> str:
        word = self._device.cache.slots.get(PageNumber(page))
        if not word:
            return "hole"
        return "memory" if is_object(word) else "word"

    def _tier_name(self, tried: Deferred) -> str:
        if not isinstance(tried, TierLoad):
            return "?"
        return self._names.get(tried.location.tier, "?")

    def _loaded_later(
        self, page: int, began: float, until: float, where: str, found: bytes | Exception
    ) -> None:
        self._loaded(page, max(until, trio.current_time()) - began, where, found)
        self._done(page)

    def _loaded(self, page: int, took_s: float, where: str, found: bytes | Exception) -> None:
        results = self.results
        results.faults.add(took_s)
        results.places[where] = results.places.get(where, 0) + 1
        try:
            self._oracle.loaded(page, found)
        except WrongPage as exc:
            self._fail(exc)

    # -- stores and discards -----------------------------------------------------------

    def _version(self, event: Event) -> Version:
        if event.kind_of_contents == SAME_FILLED_CLASS:
            return half_word(event.number), SAME_FILLED
        if event.codec == FILL:
            return event.number, SAME_FILLED
        size = PAGE_SIZE if event.kind_of_contents == INCOMPRESSIBLE else event.size
        return event.number, self._contents.noise_for(size)

    def _store(self, event: Event, began: float) -> None:
        page = event.page
        until = self._work(began, self._config.store_s)
        version = self._version(event)
        data = memoryview(self._oracle.bytes_of(version))
        pending, offset = self._device.pending_io, page << PAGE_SHIFT
        tried: Deferred | None = None
        if not pending.has_to_wait(offset, PAGE_SIZE):
            try:
                self._device.swapfile.write(offset, data)
            except Deferred as exc:
                tried = kept(exc)
            except Exception as exc:
                self._stored(page, version, until - began, kept(exc))
                return
            else:
                self._stored(page, version, until - began, None)
                return
        self._busy[page] = True
        ended = partial(self._stored_later, page, version, began, until)
        pending.begin_write(offset, data, ended, tried)

    def _stored_later(
        self, page: int, version: Version, began: float, until: float, error: Exception | None
    ) -> None:
        self._stored(page, version, max(until, trio.current_time()) - began, error)
        self._done(page)

    def _stored(self, page: int, version: Version, took_s: float, error: Exception | None) -> None:
        results = self.results
        results.stores.add(took_s)
        if error is None:
            self._oracle.stored(page, version)
            word = self._device.cache.slots.get(PageNumber(page))
            results.compressed_bytes += length_of(word) if is_object(word) else 0
        else:
            self._oracle.forgotten(page)
            results.refused += 1
            if not isinstance(error, StoreRefused):
                self._fail(WrongPage(f"a store ended with {type(error).__name__}: {error}"))

    async def _discard(self, event: Event) -> None:
        first, count = event.page, min(event.number, self._pages - event.page)
        if not count > 0:
            return
        end = first + count
        await self._wait_while(lambda: any(first <= page < end for page in self._busy))
        pending = self._device.pending_io
        self._oracle.forgotten(first, count)
        try:
            pending.discards.begin(first << PAGE_SHIFT, count << PAGE_SHIFT)
        except Unfinished as exc:
            rest = exc.discard
        else:
            return
        await pending.discards.go_on(rest)

    # -- the rest ----------------------------------------------------------------------

    def _done(self, page: int) -> None:
        del self._busy[page]
        self._changed.set()

    def _fail(self, error: WrongPage) -> None:
        """A callback of the device must not raise: it is told to the task that goes on."""
        self._failure.append(error)
        self._changed.set()

    async def _keep_house(self) -> None:
        """As a worker does, once a second."""
        device, results = self._device, self.results
        every_s = max(self._seconds / _SAMPLES, 1e-3)
        next_sample = every_s
        while True:
            await trio.sleep(min(_HOUSEKEEPING_S, every_s))
            device.cache.memory_usage.note_peak()
            device.swapfile.settle()
            held = device.held_bytes()
            results.memory_looks += 1
            results.memory_sum += held
            results.memory_peak = max(results.memory_peak, held)
            if trio.current_time() - self._began >= next_sample and len(results.memory) < _SAMPLES:
                results.memory.append(held)
                next_sample += every_s

    async def _check_extents(self) -> None:
        """Each extent in use is that of a segment with a live object, once nothing is written."""
        for _ in range(_LOOKS):
            wrong = self._leaked_extents()
            if not wrong:
                return
            await trio.sleep(_HOUSEKEEPING_S)
        raise WrongPage(f"extents that no page needs stay in use: {wrong}")

    def _leaked_extents(self) -> dict[str, int]:
        table = self._device.cache.log.table
        used = Counter(
            place[1].tier for one in table.segments() if (place := table.on_tier(one)) is not None
        )
        left = {
            self._names[one.number]: one.extents.in_use - used[one.number]
            for one in self._device.tiers
        }
        return {name: count for name, count in left.items() if count}

    def _finish(self) -> None:
        if self._failure:
            raise self._failure[0]
        results, device = self.results, self._device
        results.seconds = trio.current_time() - self._began
        results.memory_peak = max(results.memory_peak, device.held_bytes())
        results.errors, results.checked = self._oracle.errors, self._oracle.checked
        for entry in device.tiers:
            if entry.tier is not None:
                results.written[entry.tier.name] = entry.statistics().tier_written_bytes
        results.copied_bytes = device.cleaned().bytes_copied
