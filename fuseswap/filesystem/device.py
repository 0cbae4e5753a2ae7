"""One device: the store, the front end and the file over one shared state.

Built by the worker, looked at through the tables in ``parameters.py`` and
``statistics.py``.  Holds no policy of its own and knows no FUSE.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fuseswap.counting import Key, counter, numbers_of, zeros
from fuseswap.dedup.merger import Merger
from fuseswap.dedup.sweep import Sweep
from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.backends import Backends
from fuseswap.filesystem.balance import balance
from fuseswap.filesystem.host_numbers import HostNumbers, ProcessStatistics
from fuseswap.filesystem.latency import Latency
from fuseswap.filesystem.pending_io import PendingIo
from fuseswap.filesystem.plugged import NOTHING_PLUGGED, Plugged
from fuseswap.filesystem.swapfile import Swapfile
from fuseswap.frontswap.cache_statistics import by_codec
from fuseswap.frontswap.chain import Frontswap
from fuseswap.frontswap.compressed_cache import CompressedCache
from fuseswap.frontswap.place_writer import PlaceWriter
from fuseswap.frontswap.place_writes import PlaceFile
from fuseswap.frontswap.raw_file import RawFile
from fuseswap.reclaim.background_thread import BackgroundThread, Submit, run_here
from fuseswap.reclaim.cleaning_policy import CleaningPolicy
from fuseswap.reclaim.destinations import Destinations
from fuseswap.reclaim.dictionary_mover import ReadBack
from fuseswap.reclaim.dictionary_policy import DEFAULT_SCHEDULE, TrainingSchedule
from fuseswap.reclaim.dictionary_training import TrainingMemory
from fuseswap.reclaim.evictor import Evictor
from fuseswap.reclaim.memory_watch import MemoryWatch
from fuseswap.reclaim.patience import CachePatience
from fuseswap.reclaim.policy import RECOMPRESS, Choice, Preference
from fuseswap.reclaim.recompression import Recompression
from fuseswap.reclaim.relocation import Relocation
from fuseswap.reclaim.room import Room
from fuseswap.reclaim.room_maker import Rest, RoomMaker
from fuseswap.reclaim.scrubber import Scrubber
from fuseswap.reclaim.segment_reader import SegmentReader
from fuseswap.reclaim.segment_writer import SegmentWriter
from fuseswap.reclaim.tier_merging import TierMerging
from fuseswap.reclaim.tier_mover import TierMover
from fuseswap.reclaim.write_account import WriteAccount
from fuseswap.reclaim.writeback import Writeback
from fuseswap.reclaim.writeback_statistics import WritebackStatistics
from fuseswap.reclaim.writes_in_flight import WritesInFlight
from fuseswap.store.cleaner import Cleaner
from fuseswap.store.copier import CopierStatistics
from fuseswap.store.frame_pool import (
    CLEANER_RESERVE,
    CLEANER_RESERVE_WITH_TIER,
    CLEANER_RESERVE_WITH_TIERS,
)
from fuseswap.store.memory_reserve import AtOnce, Feeder
from fuseswap.store.region import Region
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.superblock import SharedState
from fuseswap.tiers.io_engine import Engine
from fuseswap.tiers.mirrored_tier import MirroredTier
from fuseswap.tiers.tier import Tier
from fuseswap.tiers.tier_health import TierHealth
from fuseswap.tiers.tier_policy import TierPolicy
from fuseswap.tiers.tier_reader import TierLoad, TierReader
from fuseswap.tiers.tier_table import TierEntry, TierTable
from fuseswap.tiers.write_budget import Budget
from fuseswap.units import PAGE_SIZE

DEFAULT_BUSY_POLL_US = 200
_NONE: Mapping[str, Region] = {}


@dataclass(slots=True)
class TransportCounters:
    """What the transport counts; it adds, everyone else reads."""

    requests: int = counter("FUSE requests answered.")
    wakeups: int = counter("Times the transport slept and was woken.")
    failed_requests: int = counter(
        "Well-formed requests that failed (EIO, ENOSPC, EINVAL, ...), 'no such file' left out."
    )
    malformed_requests: int = counter("Requests that were not well-formed.")
    refused_replies: int = counter(
        "Replies that the kernel did not take though their callers were alive."
    )
    discards: int = counter(
        "Ranges the kernel freed (fallocate); the pyfuse3 transport never sees one."
    )
    replayed_requests: int = counter(
        "Requests a former worker had taken and not answered that came from the journal."
    )


class Device:
    """The layers of one swap device, bottom up."""

    def __init__(
        self,
        state: SharedState,
        tiers: Sequence[Tier] = (),
        under_pressure: Callable[[], bool] = lambda: False,
        engine: Engine | None = None,
        place_file: PlaceFile | None = None,
        *,
        lazy: bool = False,
        submit: Submit = run_here,
        feeder: Feeder | None = None,
        ready_frames: int = 0,
        host: HostNumbers | None = None,
        training_memory: TrainingMemory | None = None,
        schedule: TrainingSchedule = DEFAULT_SCHEDULE,
        plugged: Plugged = NOTHING_PLUGGED,
        memories: Mapping[str, Region] = _NONE,
    ) -> None:
        """``submit`` runs what may take long, and what needs no GIL, in a thread.

        ``lazy``: the tasks count what a former worker left; see `Frontswap.adopt_some`.
        ``feeder`` makes memory ahead of need, of it ``ready_frames`` for stores.
        ``schedule`` says when a dictionary is trained, ``training_memory`` in what.
        ``plugged``: plugins.  ``memories``: of backends, by name.
        """
        self.host = host = host or HostNumbers()
        self.state = state
        self.engine = engine  # of the tiers' I/O, where there is one that can be polled
        feeder = feeder or AtOnce()
        counters = zeros(WritebackStatistics)
        self.budget = Budget(self._keep_limit)
        self.tiers = TierTable(state.tier_names, state.keep_tier_names)
        destinations = Destinations(self.tiers)
        self.in_flight = WritesInFlight()
        if place_file is not None:
            place = place_file
            self.reader = TierReader(lambda *read: place.begin_read(*read[2:]))
        else:
            self.reader = TierReader(
                self.tiers.begin_read, ahead=True, copies_at=self.tiers.copies_at
            )
        slots = SlotTable(state.slots, state.geometry.page_count, feeder)
        self.frontswap = frontswap = Frontswap(slots)
        self.cache = CompressedCache(
            state,
            slots,
            in_place=place_file is not None,
            feeder=feeder,
            ready_frames=ready_frames,
            defer=partial(TierLoad, self.reader),
            tiers=self.tiers if place_file is None else None,
            codecs=plugged.codecs,
        )
        self._plugged = plugged
        for tier in tiers:
            self.tiers.register(tier)
        self.place: RawFile | None = None
        self.writer: SegmentWriter | PlaceWriter
        self.cleaning = Preference(plugged.policies, self.cache)
        cleaner = Cleaner(slots, self.cache.log, self.cache.decoder, self.cleaning)
        segments = SegmentReader(self.cache.log, self.reader)
        self.relocation = Relocation(
            self.cache.log, self.tiers, self.reader, cleaner.is_worth_another_read, slots
        )
        self.mover = TierMover(
            self.cache.log, self.tiers, destinations, self.relocation, self.budget, counters
        )
        read_back: ReadBack | None = None
        rest: Rest = destinations
        if place_file is not None:
            rest = health = TierHealth()
            account = WriteAccount(self.budget, health, counters)
            self.place = RawFile(self.cache, place_file, self.reader, account, counters)
            self.writer = PlaceWriter(self.cache, self.place, account, self.in_flight, counters)
        else:
            self.writer = SegmentWriter(
                self.cache.log,
                destinations,
                self.relocation,
                self.budget,
                self.in_flight,
                counters,
            )
            read_back = ReadBack(self.writer.may_write_again, segments.read)
        self.recompression = Recompression(
            self.cache,
            BackgroundThread(submit, lambda: frontswap.operations, lambda: feeder.is_tight),
            read_back,
            may_train=lambda: not feeder.is_short,
            memory=training_memory,
            schedule=schedule,
            choice=Choice(RECOMPRESS, plugged.policies),
        )
        self.sweep = Sweep(Merger(self.cache, self.cache.dedup), lambda: frontswap.operations)
        log, decoder = self.cache.log, self.cache.decoder
        self.scrubber = Scrubber(
            slots, log, self.tiers, self.reader, decoder, frontswap.load_foreign
        )
        self.room = Room(self.cache, counters)
        cleaning = CleaningPolicy(self.cache, cleaner, self.room, self.recompression.is_due)
        self.evictor = Evictor(
            self.cache, cleaner, self.room, self.writer, self.in_flight, plugged.policies
        )
        tier_merging = None
        if place_file is None:
            tier_merging = TierMerging(
                self.cache.log, self.tiers, destinations, cleaner, segments, self.evictor
            )
        maker = RoomMaker(
            self.cache,
            self.room,
            cleaner,
            cleaning,
            self.evictor,
            rest,
            tier_merging,
            self.recompression,
        )
        self.writeback = Writeback(
            self.cache,
            self.room,
            cleaner,
            cleaning,
            self.evictor,
            tier_merging,
            destinations,
            maker,
            self.reader,
            counters,
            under_pressure,
            frontswap.adopt_some,
        )
        self.swapfile = Swapfile(
            state.geometry.page_count * PAGE_SIZE, frontswap, self.cache.tier_of
        )
        self.pending_io = pending_io = PendingIo(self.swapfile, frontswap)
        self.memory = MemoryWatch(
            feeder,
            self.cache,
            lambda: frontswap.operations,
            lambda: pending_io.waiting_bytes + pending_io.reading_bytes > 0,
            host.queue_file,
            host.serving_faults,
        )
        patience = CachePatience(maker, self.room, self.memory)
        frontswap.register(self.cache, order=0, patience=patience)
        if self.place is not None:
            frontswap.register(self.place, order=1, copy=self.place.write_through)
        self.backends = Backends(
            state,
            frontswap,
            feeder,
            self.cache.reader.corrupt,
            self.writeback.shrink,
            plugged.shelves,
        )
        for name, memory in memories.items():
            self.backends.offer(name, memory)
        self.backends.restore()
        if not lazy:
            frontswap.adopt_all()
        self.transport = zeros(TransportCounters)
        self.latency = Latency(state, in_place=self.place is not None)
        self.busy_poll_us = DEFAULT_BUSY_POLL_US
        self.created_ns = time.time_ns()
        self._count_tiers()

    # -- tiers -------------------------------------------------------------------------

    def add_tier(
        self, tier: Tier, policy: TierPolicy | None = None, policy_words: Sequence[str] = ()
    ) -> TierEntry:
        """Write segments to ``tier`` too; the caller runs its task.  Raises `InvalidArgument`."""
        if self.place is not None:
            raise InvalidArgument("the layout in-place has one backing file and no tiers")
        entry = self.tiers.register(tier, policy, policy_words)
        self._count_tiers()
        return entry

    def remove_tier(self, name: str) -> None:
        """Forget a tier; raises `InvalidArgument` while a segment is there.

        Its own count says so, and so does the segment table, which alone is the truth.
        """
        if left := self.mover.first_on(self.tiers.named(name).number):
            raise InvalidArgument(f"tier '{name}' has segment {left}; drain it first")
        self.tiers.unregister(name)
        self._count_tiers()

    def set_tier_policy(self, name: str, words: list[str]) -> None:
        """Raises `InvalidArgument`; see `TierPolicy.changed`."""
        self.tiers.set_policy(name, words)
        self.mover.call()

    def _count_tiers(self) -> None:
        """What depends on whether there is a tier, or several."""
        known = {entry.number: entry.tier.name for entry in self.tiers if entry.tier is not None}
        count = len(known)
        self.latency.know_no_tier_but(set(known))
        for number, name in known.items():
            self.latency.know_tier(number, name)
        reserves = (CLEANER_RESERVE, CLEANER_RESERVE_WITH_TIER, CLEANER_RESERVE_WITH_TIERS)
        self.cache.log.frames.set_cleaner_reserve(reserves[min(count, 2)])
        self.cache.full_pool.mixes_streams = self.place is None and not count

    def _keep_limit(self, left_bytes: int) -> None:
        """A spent budget stays spent when the worker is replaced."""
        kept = {"writeback_limit_bytes": str(left_bytes)}
        self.state.parameters = {**self.state.parameters, **kept}

    def warm_up(self) -> None:
        """Have every codec make its tables now, rather than while a request waits for it."""
        page = bytes(range(256)) * (PAGE_SIZE // 256)
        self.cache.encoder.warm_up(page, self.cache.decoder)
        self.recompression.warm_up(page)
        self.writeback.cleaner.packer.warm_up(page)

    def tasks(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """What runs beside requests, each in a task of its own, for as long as it is served."""
        return (
            self.memory.run,
            self.writeback.run,
            self.recompression.run,
            self.sweep.run,
            self.mover.run,
            self.scrubber.run,
            self.backends.run,
        )

    def held_bytes(self) -> int:
        """Memory that what is stored takes, in bytes."""
        return self.cache.memory_usage.used_bytes()

    def mem_fixed(self) -> int:
        """Memory of the processes that serve, and of frames kept ready for stores."""
        return self.host.fixed_bytes() + self.cache.memory_usage.ready_bytes

    def mem_worker(self) -> int:
        """Heap and stacks of this process."""
        return self.host.worker_bytes()

    def mem_worker_bound(self) -> int:
        """The most `mem_worker` may be with what is stored."""
        return self.host.worker_bound_bytes(self.cache.log)

    def cleaned(self) -> CopierStatistics:
        """What all cleaners did together."""
        return self.writeback.cleaner.statistics() + self.recompression.cleaned()

    def parts(self) -> Iterator[object]:
        """What the classes that ``statistics.py`` lists have counted, at this moment."""
        in_place = self.place.stored_pages if self.place else 0
        cache = self.cache.statistics(in_place, self.frontswap.uncounted_pages)
        cleaner = self.cleaned()
        yield cache
        yield self.cache.full_pool.counters
        yield self.frontswap.statistics()
        yield self.cache.encoder.counters
        yield self.cache.reader.counters
        yield cleaner
        yield balance(cache, cleaner)
        yield self.sweep.merger.statistics()
        yield self.writeback.statistics()
        yield self.mover.statistics()
        yield self.scrubber.counters
        yield self.pending_io.statistics()
        yield self.pending_io.counters
        yield self.recompression.dictionaries.statistics()
        yield self.recompression.mover.statistics()
        yield self.recompression.thread.statistics()
        yield self.memory.statistics()
        yield self.transport
        yield ProcessStatistics(
            mem_fixed=self.mem_fixed(),
            mem_standby=self.host.standby_bytes(),
            mem_worker=self.mem_worker(),
            mem_worker_bound=self.mem_worker_bound(),
            journal_bytes=self.state.journal.allocated_bytes(),
            seccomp=self.host.is_filtered(),
        )
        yield self.host.zswap()
        yield self.backends.statistics()
        log = self.cache.log
        yield from by_codec(self.cache.codecs.labels, log.codec_pages, log.codec_bytes)
        yield from self.frontswap.by_backend()
        yield from (entry.statistics() for entry in self.tiers)
        yield from self.latency.statistics()
        mirrors = (entry.tier for entry in self.tiers)
        yield from (one.statistics() for one in mirrors if isinstance(one, MirroredTier))
        yield from (health.counters for health in self._plugged.health)

    def statistics(self) -> dict[Key, int]:
        """All numbers, by name; those with labels by name and labels."""
        numbers: dict[Key, int] = {}
        for part in self.parts():
            numbers.update(numbers_of(part))
        return numbers
