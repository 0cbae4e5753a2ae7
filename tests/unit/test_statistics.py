"""Statistics: each row of the table reads the number it says it does."""

from __future__ import annotations

import itertools
from dataclasses import fields

import pytest

from fuseswap.cache.cleaner import CleanerStatistics
from fuseswap.cache.segments import OBJECT_OVERHEAD
from fuseswap.cache.snapshot import CacheStatistics
from fuseswap.device import Device, DeviceStatistics, TransportCounters
from fuseswap.errors import CorruptData, StoreRefused
from fuseswap.frontswap import FrontswapStatistics
from fuseswap.memory_watch import MemoryStatistics
from fuseswap.statistics import STATISTICS, Kind
from fuseswap.tier_writer import WritebackStatistics
from fuseswap.units import MIB, PAGE_SIZE
from tests import pages


def read(device: Device) -> dict[str, int]:
    now = device.statistics()
    return {statistic.name: statistic.read(now) for statistic in STATISTICS}


def test_names_are_unique_and_explained() -> None:
    assert len({statistic.name for statistic in STATISTICS}) == len(STATISTICS)
    for statistic in STATISTICS:
        assert statistic.help.endswith(".")
        assert statistic.unit or statistic.kind is Kind.COUNTER


def test_every_row_reads_a_number_of_its_own() -> None:
    """Give each field another number: no two rows may read the same one."""
    numbers = (number * number for number in itertools.count(40))
    snapshot = DeviceStatistics(
        cache=CacheStatistics(**{f.name: next(numbers) for f in fields(CacheStatistics)}),
        frontswap=FrontswapStatistics(
            **{f.name: next(numbers) for f in fields(FrontswapStatistics)}
        ),
        transport=TransportCounters(**{f.name: next(numbers) for f in fields(TransportCounters)}),
        writeback=WritebackStatistics(
            **{f.name: next(numbers) for f in fields(WritebackStatistics)}
        ),
        cleaner=CleanerStatistics(**{f.name: next(numbers) for f in fields(CleanerStatistics)}),
        waits=tuple(next(numbers) for _ in range(6)),
        journal_bytes=next(numbers),
        tier_loads=next(numbers),
        mem_fixed=lambda: 999,
        memory=MemoryStatistics(81, 82, 83, 84, 85, 86),
        mem_worker=lambda: 998,
        mem_worker_bound=lambda: 997,
        mem_standby=lambda: 99,
        dictionaries=next(numbers),
        dictionaries_trained=next(numbers),
        dedup_merged_pages=next(numbers),
        dedup_unswept_pages=next(numbers),
        dictionaries_dropped=next(numbers),
        dictionary_pages_moved=next(numbers),
    )
    values = [statistic.read(snapshot) for statistic in STATISTICS]
    assert len(set(values)) == len(values)
    unread = {
        f.name
        for part in (getattr(snapshot, f.name) for f in fields(snapshot)[:5])
        for f in fields(part)
        if getattr(part, f.name) not in values
    }
    # a parameter, what only tests ask for, and what two rows share out
    assert unread == {"pool_limit_bytes", "objects_copied", "given_up", "payload_bytes_saved"}


def test_rows_are_named_for_what_they_read() -> None:
    known = {
        f.name
        for part in (
            CacheStatistics,
            FrontswapStatistics,
            TransportCounters,
            WritebackStatistics,
            CleanerStatistics,
            MemoryStatistics,
        )
        for f in fields(part)
    }
    assert {s.name for s in STATISTICS} - known == {
        "stored_incompressible_pages",
        "cleaner_copied_bytes",
        "journal_bytes",
        "mem_fixed",
        "mem_worker",
        "mem_worker_bound",
        "mem_standby",
        "compression_bytes_saved",
        "recompression_bytes_saved",
        "dictionaries",
        "dictionaries_trained",
        "dedup_merged_pages",
        "dedup_unswept_pages",
        "dictionaries_dropped",
        "dictionary_pages_moved",
        "tier_loads",
        "write_amplification_percent",
        *(f"store_waits_{bound}" for bound in ("1ms", "10ms", "100ms", "1s", "10s", "longer")),
    }


def test_an_empty_device_has_nothing_but_zeros(device: Device) -> None:
    assert {name for name, number in read(device).items() if number} == {"dedup_active"}


def test_a_day_in_the_life(device: Device) -> None:
    write = device.swapfile.write
    for page, name in enumerate(("zero", "fill_fits_not", "compressible", "incompressible")):
        write(page * PAGE_SIZE, memoryview(pages.CORPUS[name]))
    write(0, memoryview(pages.CORPUS["compressible"]))
    now = read(device)
    compressed = now["compr_data_size"] - 8 - PAGE_SIZE  # the fill is an object of 8 bytes
    assert now["duplicate_pages"] == 1
    assert now["duplicate_bytes_saved"] == compressed
    assert now["dedup_index_bytes"] > PAGE_SIZE
    device.swapfile.read(0, 8 * PAGE_SIZE)
    device.swapfile.punch(2 * PAGE_SIZE, 4 * PAGE_SIZE)
    device.cache.non_same_filled_pages_enabled = False
    with pytest.raises(StoreRefused):
        write(7 * PAGE_SIZE, memoryview(pages.CORPUS["compressible"]))
    device.cache.slots.words[1] ^= 1 << 33
    with pytest.raises(CorruptData):
        device.swapfile.read(PAGE_SIZE, PAGE_SIZE)
    now = read(device)
    assert now["stored_pages"] == 2
    assert now["orig_data_size"] == 2 * PAGE_SIZE
    assert now["pool_total_size"] == 2 * MIB  # incompressible pages have one of their own
    assert now["stored_incompressible_pages"] == 0
    assert 8 < now["compr_data_size"] < PAGE_SIZE
    assert now["compr_data_size"] == 8 + compressed
    assert now["duplicate_pages"] == now["duplicate_bytes_saved"] == 0
    appended = 8 + compressed + PAGE_SIZE + 3 * OBJECT_OVERHEAD
    counters = {s.name: now[s.name] for s in STATISTICS if s.kind is Kind.COUNTER and now[s.name]}
    assert counters == {
        "loads": 8,
        "succ_stores": 5,
        "failed_stores": 1,
        "invalidates": 2,
        "reject_compress_poor": 1,
        "duplicate_entry": 1,
        "checksum_errors": 1,
        "appended_bytes": appended,
    }
    assert now["write_amplification_percent"] == 100


def test_write_amplification_is_what_the_cleaner_adds(device: Device) -> None:
    for page in range(400):
        device.swapfile.write(page * PAGE_SIZE, memoryview(pages.nearly_incompressible(page, 3900)))
    device.swapfile.punch(0, 130 * PAGE_SIZE)
    before = read(device)
    while device.writeback.cleaner.step():
        pass
    now = read(device)
    assert now["appended_bytes"] == before["appended_bytes"]
    assert now["cleaner_copied_bytes"] > 130 * 3900
    share = now["cleaner_copied_bytes"] / now["appended_bytes"]
    assert now["write_amplification_percent"] == int(100 * (1 + share))


def test_counters_never_fall(device: Device) -> None:
    counters = [s for s in STATISTICS if s.kind is Kind.COUNTER]
    before = [s.read(device.statistics()) for s in counters]
    for page in range(300):
        device.swapfile.write(page % 40 * PAGE_SIZE, memoryview(pages.compressible(page)))
        device.swapfile.punch(page % 7 * PAGE_SIZE, 2 * PAGE_SIZE)
        now = [s.read(device.statistics()) for s in counters]
        assert all(new >= old for new, old in zip(now, before, strict=True))
        before = now
