"""Evictions and writes of a device with the in-place layout, begun and looked at."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass

import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.errors import Deferred, StoreRefused
from fuseswap.frontswap.place_writer import PlaceWriter
from fuseswap.frontswap.raw_file import RawFile
from fuseswap.units import PAGE_SIZE, SegmentId
from tests.support.fake_tier import FakePlaceFile
from tests.support.tiered_devices import Tiered


def place_of(worker: Tiered) -> RawFile:
    assert worker.device.place is not None
    return worker.device.place


def send(worker: Tiered, nursery: trio.Nursery, segment: SegmentId, *, second_chance: bool) -> None:
    assert isinstance(worker.device.writer, PlaceWriter)
    worker.device.writer.send(nursery, segment, second_chance=second_chance)


def evict(worker: Tiered, nursery: trio.Nursery, *, second_chance: bool = True) -> int:
    """Begin to evict the segment of the first page in memory; which."""
    segment = next(filter(None, map(worker.segment_of, sorted(worker.expected))))
    for head in worker.log.heads:
        worker.log.seal(head)
    assert worker.log.eviction_queue.remove(segment)
    send(worker, nursery, segment, second_chance=second_chance)
    return segment


def refuse_dense(worker: Tiered) -> None:
    """From now on a dense page goes to its place."""
    worker.cache.encoder.max_compression_ratio = 50


@dataclass
class Outcome:
    """Of a write: what it ended with, once it has."""

    ended: bool = False
    error: Exception | None = None


def ask(worker: Tiered, nursery: trio.Nursery, offset: int, data: bytes) -> Outcome:
    """A write as the transport makes it: at once, or later where it must wait."""
    outcome = Outcome()

    async def end(waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except StoreRefused as exc:
            outcome.error = exc
        outcome.ended = True

    try:
        worker.device.swapfile.write(offset, memoryview(data))
    except Deferred as exc:
        nursery.start_soon(end, worker.pending_io.write(offset, memoryview(data), exc))
    except StoreRefused as exc:
        outcome.error = exc
        outcome.ended = True
    else:
        outcome.ended = True
    return outcome


def ask_page(worker: Tiered, nursery: trio.Nursery, page: int, data: bytes) -> Outcome:
    return ask(worker, nursery, page * PAGE_SIZE, data)


async def fly(
    worker: Tiered, places: FakePlaceFile, nursery: trio.Nursery, page: int, data: bytes
) -> Outcome:
    """A store that the cache refuses, on its way."""
    refuse_dense(worker)
    places.hold_writes = True
    outcome = ask_page(worker, nursery, page, data)
    await wait_all_tasks_blocked()
    assert not outcome.ended
    return outcome
