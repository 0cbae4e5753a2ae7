"""Slot table, segment table, index and dictionaries with a feeder: nothing grows inside a store."""

from __future__ import annotations

import pytest

from fuseswap.dedup.content_index import ContentIndex
from fuseswap.errors import NoMemory
from fuseswap.store.dictionary_area import Dictionaries, memory_bytes
from fuseswap.store.geometry import DICTIONARY_PLACE_BYTES, Geometry
from fuseswap.store.segment_entry import Stream
from fuseswap.store.slot_table import READY_CLUSTERS, SlotTable
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.fake_feeder import FakeFeeder
from tests.support.memory_stores import AskAgain, SharedMemory, fronted

LARGE = Geometry(page_count=4 * READY_CLUSTERS * 512, segment_count=9, frame_count=8)


@pytest.fixture
def feeder() -> FakeFeeder:
    return FakeFeeder()


@pytest.fixture
def memory() -> SharedMemory:
    return SharedMemory(LARGE)


def slot_table(memory: SharedMemory, feeder: FakeFeeder) -> SlotTable:
    return SlotTable(memory.attach().slots, LARGE.page_count, feeder)


def test_clusters_are_ready_before_they_are_used(memory: SharedMemory, feeder: FakeFeeder) -> None:
    slots = slot_table(memory, feeder)
    slots.get_ready()
    feeder.deliver()
    before = memory.allocated_bytes("slots")
    assert before == READY_CLUSTERS * PAGE_SIZE
    slots.allocate(PageNumber(0))
    slots.commit(PageNumber(0), 1)
    assert memory.allocated_bytes("slots") == before
    slots.allocate(PageNumber(17 * 512))
    feeder.deliver()
    assert memory.allocated_bytes("slots") == before + 17 * PAGE_SIZE, "always so many ahead"


def test_a_cluster_that_is_not_there_is_waited_for(
    memory: SharedMemory, feeder: FakeFeeder
) -> None:
    slots = slot_table(memory, feeder)
    far = LARGE.page_count - 1
    for _ in range(3):
        with pytest.raises(NoMemory):
            slots.allocate(PageNumber(far))
    assert len(feeder.orders) == 1
    feeder.deliver(made=False)
    with pytest.raises(NoMemory):
        slots.allocate(PageNumber(far))
    feeder.make()
    slots.allocate(PageNumber(far))


def test_an_empty_cluster_keeps_its_memory_only_among_those_that_are_ready(
    memory: SharedMemory, feeder: FakeFeeder
) -> None:
    slots = slot_table(memory, feeder)
    slots.get_ready()
    feeder.deliver()
    far = LARGE.page_count - 1
    with pytest.raises(NoMemory):
        slots.allocate(PageNumber(far))
    feeder.deliver()
    for page in (5, far):
        slots.allocate(PageNumber(page))
        slots.commit(PageNumber(page), 1)
    for page in (5, far):
        slots.clear(PageNumber(page))
    assert memory.allocated_bytes("slots") == READY_CLUSTERS * PAGE_SIZE == slots.allocated_bytes
    assert slots.ready_bytes == slots.allocated_bytes


def test_what_was_ready_for_more_than_is_used_goes_back_when_idle(
    memory: SharedMemory, feeder: FakeFeeder
) -> None:
    slots = slot_table(memory, feeder)
    for cluster in (0, READY_CLUSTERS, 2 * READY_CLUSTERS):
        slots.get_ready(cluster)
        feeder.deliver()
    assert memory.allocated_bytes("slots") == 3 * READY_CLUSTERS * PAGE_SIZE
    for _ in range(5):
        slots.trim()
    assert memory.allocated_bytes("slots") == READY_CLUSTERS * PAGE_SIZE
    slots.allocate(PageNumber(0))
    slots.commit(PageNumber(0), 1)
    slots.trim()
    assert slots.get(PageNumber(0)) == 1


def test_a_store_waits_with_nothing_changed_and_then_is_done(feeder: FakeFeeder) -> None:
    memory = SharedMemory()
    cache = fronted(memory.attach(), feeder=feeder, ready_frames=2)
    cache.keep_ready()
    with pytest.raises(NoMemory):
        cache.store(7, pages.compressible(7))
    assert cache.load(7) is None
    assert cache.statistics().stored_pages == 0
    feeder.deliver()
    cache.keep_ready()
    feeder.deliver()
    cache.store(7, pages.compressible(7))
    assert cache.load(7) == pages.compressible(7)


def test_the_old_version_of_a_page_stays_while_its_store_waits(feeder: FakeFeeder) -> None:
    memory = SharedMemory()
    cache = fronted(memory.attach(), feeder=feeder, ready_frames=2)
    cache.keep_ready()
    feeder.deliver()
    page = 0
    while not cache.log.frames.is_short:
        cache.store(page, pages.incompressible(page))
        page += 1
    while cache.log.fits(cache.log.heads[Stream.INCOMPRESSIBLE], PAGE_SIZE):
        cache.store(page, pages.incompressible(page))
        page += 1
    cache.on_full = lambda: True
    with pytest.raises(AskAgain):
        cache.store(page, pages.incompressible(page))
    cache.store(0, bytes(PAGE_SIZE))  # what needs no frame goes on
    assert cache.load(0) == bytes(PAGE_SIZE)
    with pytest.raises(AskAgain):
        cache.store(1, pages.incompressible(99))
    assert cache.load(1) == pages.incompressible(1)
    cache.invalidate_area(0, page)
    assert cache.statistics().stored_pages == 0
    assert cache.full_pool.counters.reserve_empty >= 2


def test_the_index_forgets_while_it_can_t_grow(feeder: FakeFeeder) -> None:
    region = SharedMemory(LARGE).attach().index
    index = ContentIndex(region, feeder)
    index.grow(1000, 10)
    assert (index.buckets, index.exchange(PageNumber(3), b"12345678")) == (0, -1)
    assert len(feeder.orders) == 1
    index.grow(1000, 10)
    assert len(feeder.orders) == 1
    feeder.deliver(made=False)
    assert region.allocated_bytes() == 0
    index.grow(1000, 1000)
    feeder.deliver()
    index.grow(1000, 1000)
    assert index.buckets == 125
    assert index.exchange(PageNumber(3), b"12345678") == -1
    assert index.exchange(PageNumber(4), b"12345678") == 3
    assert index.ready_bytes + index.allocated_bytes == region.allocated_bytes()


def test_an_index_that_shrinks_while_it_was_to_grow_takes_no_memory(feeder: FakeFeeder) -> None:
    region = SharedMemory(LARGE).attach().index
    index = ContentIndex(region, feeder)
    for _ in range(3):
        index.grow(20_000, 4000)
        feeder.deliver()
    index.grow(30_000, 4000)
    assert feeder.orders
    index.shrink(0)
    feeder.deliver()
    assert region.allocated_bytes() == index.allocated_bytes + index.ready_bytes


def test_a_dictionary_finds_its_place_ready(feeder: FakeFeeder) -> None:
    region = SharedMemory(LARGE).attach().dictionaries
    kept = Dictionaries(region, lambda number, data: None, feeder)
    assert kept.add(b"d" * 5000) is None, "its memory is being made"
    feeder.deliver()
    assert kept.ready_bytes == DICTIONARY_PLACE_BYTES == region.allocated_bytes()
    added = kept.add(b"d" * 5000)
    assert added is not None
    assert region.allocated_bytes() == memory_bytes(added)
    feeder.deliver()
    assert region.allocated_bytes() == memory_bytes(added) + DICTIONARY_PLACE_BYTES


def test_the_segment_table_is_ahead_of_its_segments(feeder: FakeFeeder) -> None:
    geometry = Geometry(page_count=512, segment_count=9000, frame_count=8)
    memory = SharedMemory(geometry)
    cache = fronted(memory.attach(), feeder=feeder, ready_frames=2)
    ahead = cache.log.table._ahead.usable(1)
    assert 2000 < ahead < geometry.segment_count
    assert cache.log.table._ahead.usable(ahead - 10) == 11
    assert [order[0] for order in feeder.orders].count(cache.log.table._region) == 1
    feeder.deliver()
    assert cache.log.table._ahead.usable(ahead - 10) > 2000


def test_a_cluster_that_a_store_waits_for_is_not_given_back_with_those_it_was_ordered_among(
    memory: SharedMemory, feeder: FakeFeeder
) -> None:
    slots = slot_table(memory, feeder)
    slots.get_ready()
    with pytest.raises(NoMemory):
        slots.allocate(PageNumber(0))
    feeder.make(1, made=False)
    feeder.make()
    slots.allocate(PageNumber(0))
    assert memory.allocated_bytes("slots") == PAGE_SIZE == slots.allocated_bytes


def test_clusters_are_not_trimmed_while_others_are_being_made(
    memory: SharedMemory, feeder: FakeFeeder
) -> None:
    slots = slot_table(memory, feeder)
    for cluster in (0, READY_CLUSTERS):
        slots.get_ready(cluster)
        feeder.deliver()
    slots.get_ready(READY_CLUSTERS + 32)
    slots.trim()
    feeder.deliver()
    assert memory.allocated_bytes("slots") == slots.allocated_bytes
    assert slots._ready_end * PAGE_SIZE == slots.allocated_bytes


def test_workers_in_a_row_take_no_more_for_the_segment_table(feeder: FakeFeeder) -> None:
    memory = SharedMemory(Geometry(page_count=512, segment_count=9000, frame_count=8))
    sizes = []
    for _ in range(4):
        state = memory.attach()
        fronted(state, feeder=feeder, ready_frames=2)
        sizes.append(state.segments.allocated_bytes())
    assert len(set(sizes)) == 1
