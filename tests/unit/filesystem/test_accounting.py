"""What was saved and what is taken add up to what was stored, to the byte."""

from __future__ import annotations

import pytest

from fuseswap.filesystem.device import Device
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.store.object_size import footprint
from fuseswap.store.segment_entry import Mark
from fuseswap.store.slot_word import length_of
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import SharedMemory, fronted_of
from tests.support.tiered_devices import Tiered

SAVED = (
    "same_filled_bytes_saved",
    "duplicate_bytes_saved",
    "compression_bytes_saved",
    "recompression_bytes_saved",
    "writeback_bytes_saved",
    "other_backends_bytes",
)


def read(device: Device) -> dict[str, int]:
    now = device.statistics()
    return {row.name: now[row.name] for row in STATISTICS if not row.labels}


def check_ledger(device: Device) -> dict[str, int]:
    """The line of ``docs/statistics.md``; returns the numbers."""
    now = read(device)
    assert now["orig_data_size"] == now["stored_pages"] * PAGE_SIZE
    saved = sum(now[name] for name in SAVED)
    overhead = now["metadata_bytes"] + now["pool_unused_bytes"]
    assert now["orig_data_size"] - saved + overhead == now["mem_used_total"]
    check_invariants(fronted_of(device))
    return now


def store_corpus(device: Device) -> None:
    for page, data in enumerate(pages.CORPUS.values()):
        device.swapfile.write(page * PAGE_SIZE, memoryview(data))


def test_one_page_of_each_kind(device: Device) -> None:
    store_corpus(device)
    now = check_ledger(device)
    assert now["same_filled_bytes_saved"] == 4 * PAGE_SIZE - 8
    assert (now["raw_pages"], now["raw_bytes"]) == (2, 2 * PAGE_SIZE)
    assert now["lz4_pages"] == 2
    assert now["compression_bytes_saved"] == 2 * PAGE_SIZE - now["lz4_bytes"] > 0
    assert now["writeback_bytes_saved"] == now["recompression_bytes_saved"] == 0


def test_each_codec_has_its_own(device: Device) -> None:
    for page, name in enumerate(("lz4", "zstd:1", "zstd:9")):
        device.cache.encoder.set_compressor(name)
        device.swapfile.write(page * PAGE_SIZE, memoryview(pages.compressible(page)))
    now = check_ledger(device)
    assert (now["lz4_pages"], now["zstd_pages"], now["zstd_dictionary_pages"]) == (1, 2, 0)
    assert 0 < now["zstd_bytes"] < 2 * now["lz4_bytes"]
    assert now["recompression_bytes_saved"] == 0, "zstd from the start is no recompression"
    device.swapfile.punch(0, 2 * PAGE_SIZE)
    now = check_ledger(device)
    assert (now["lz4_pages"], now["lz4_bytes"], now["zstd_pages"]) == (0, 0, 1)


def test_duplicates_save_what_they_would_take_compressed(device: Device) -> None:
    for page in (3, 5, 9):
        device.swapfile.write(page * PAGE_SIZE, memoryview(pages.compressible(1)))
    now = check_ledger(device)
    assert (now["lz4_pages"], now["duplicate_pages"]) == (3, 2)
    assert now["duplicate_bytes_saved"] == 2 * now["lz4_bytes"] > 0
    assert now["compression_bytes_saved"] == 3 * (PAGE_SIZE - now["lz4_bytes"])
    device.swapfile.punch(3 * PAGE_SIZE, PAGE_SIZE)
    now = check_ledger(device)
    assert now["duplicate_bytes_saved"] == now["lz4_bytes"]


def test_overwritten_discarded_and_read_pages_add_up(device: Device) -> None:
    for page in range(500):
        device.swapfile.write(page % 90 * PAGE_SIZE, memoryview(pages.compressible(page)))
        if not page % 7:
            device.swapfile.punch(page % 90 * PAGE_SIZE, PAGE_SIZE)
            check_ledger(device)
    device.swapfile.read(0, 90 * PAGE_SIZE)
    assert check_ledger(device)["pool_unused_bytes"] > 0


def test_a_next_worker_says_the_same(memory: SharedMemory) -> None:
    first = Device(memory.attach())
    store_corpus(first)
    before = check_ledger(first)
    after = check_ledger(Device(memory.attach()))
    gauges = {"lz4_bytes", "raw_pages", "metadata_bytes", "mem_used_max", *SAVED}
    assert {name: after[name] for name in gauges} == {name: before[name] for name in gauges}


def test_it_adds_up_while_a_worker_still_counts(memory: SharedMemory) -> None:
    first = Device(memory.attach())
    for page in range(0, 1280, 3):
        first.swapfile.write(page * PAGE_SIZE, memoryview(pages.compressible(page % 100)))
    assert read(first)["duplicate_pages"] > 100
    next_one = Device(memory.attach(), lazy=True)
    seen = []
    assert read(next_one)["uncounted_pages"] == 3 * 512
    while next_one.frontswap.adopt_some(1):
        now = read(next_one)
        saved = sum(now[name] for name in SAVED)
        overhead = now["metadata_bytes"] + now["pool_unused_bytes"]
        assert now["orig_data_size"] - saved + overhead == now["mem_used_total"]
        seen.append(now["stored_pages"])
    assert len(set(seen)) > 1
    assert read(next_one)["uncounted_pages"] == 0
    check_ledger(next_one)


async def test_pages_on_the_tier_are_saved_by_writeback(tiered: Tiered) -> None:
    moved = await tiered.move_out()
    assert moved
    now = check_ledger(tiered.device)
    objects = [tiered.cache.slots.get(PageNumber(page)) for page in moved]
    assert now["writeback_bytes_saved"] == sum(footprint(length_of(word)) for word in objects)


async def test_pages_in_their_places_are_saved_by_writeback(placed: Tiered) -> None:
    placed.writeback.accept_threshold_percent = 50
    await placed.move_out()
    there = placed.in_place()
    assert there
    assert check_ledger(placed.device)["writeback_bytes_saved"] == PAGE_SIZE * len(there)


def test_pages_in_other_backends_are_on_no_other_account(memory: SharedMemory) -> None:
    memory.add_raw("raw0", 20)
    device = Device(memory.attach(), memories=memory.memories())
    device.backends.ask("add=raw0")
    for page in range(50):
        device.swapfile.write(page * PAGE_SIZE, memoryview(pages.compressible(page)))
    assert check_ledger(device)["other_backends_bytes"] == 20 * PAGE_SIZE


async def test_recompression_is_told_from_compression(tiered: Tiered) -> None:
    for page in range(900):
        tiered.store(page, pages.hexadecimal(page))
    before = check_ledger(tiered.device)
    cleaner = tiered.writeback.cleaner
    segment = tiered.segment_of(0)
    tiered.log.seal(tiered.log.heads[0])
    cleaner.begin_eviction(segment)
    while cleaner.busy:
        assert cleaner.step()
    now = check_ledger(tiered.device)
    assert now["recompressed_pages"] == now["zstd_pages"] > 0
    gained = now["recompressed_bytes_before"] - now["recompressed_bytes_after"]
    assert now["recompressed_bytes_after"] == now["zstd_bytes"]
    assert now["recompression_bytes_saved"] == gained > 0
    total = before["compression_bytes_saved"] + gained
    assert now["compression_bytes_saved"] + now["recompression_bytes_saved"] == total
    tiered.discard(0, 300)
    half = check_ledger(tiered.device)["recompression_bytes_saved"]
    assert 0 < half < gained


@pytest.mark.parametrize("lazy", [False, True])
def test_segments_that_were_tried_are_counted(memory: SharedMemory, lazy: bool) -> None:
    device = Device(memory.attach())
    for page in range(600):
        device.swapfile.write(page * PAGE_SIZE, memoryview(pages.incompressible(page)))
    log = device.cache.log
    first, second, *_ = log.table.segments()
    for _ in range(2):
        log.table.mark(first, Mark.TRIED)
        log.table.mark(second, Mark.TRIED)
    log.table.mark(first, Mark.SHARED)
    assert check_ledger(device)["tried_segments"] == 2
    after = Device(memory.attach(), lazy=lazy)
    assert read(after)["tried_segments"] == 2
    after.swapfile.punch(0, 600 * PAGE_SIZE)
    while after.frontswap.adopt_some():
        pass
    assert check_ledger(after)["tried_segments"] == 0
