"""Statistics: each part delivers what it declares, and each number is what its name says."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest
import trio

from fuseswap.counting import Kind, rows_of, samples_by_name
from fuseswap.errors import CorruptData, StoreRefused
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.latency import LatencyStatistics
from fuseswap.filesystem.statistics import PARTS, STATISTICS
from fuseswap.frontswap.cache_statistics import CacheStatistics
from fuseswap.plugins.health import PluginStatistics
from fuseswap.store.copier import CopierStatistics
from fuseswap.store.object_size import footprint
from fuseswap.tiers.mirrored_tier import MirrorStatistics
from fuseswap.tiers.tier_table import TierStatistics
from fuseswap.units import MIB, PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.tiered_devices import EXTENTS, Tiered


def read(device: Device) -> dict[str, int]:
    """Those without labels."""
    now = device.statistics()
    return {row.name: now[row.name] for row in STATISTICS if not row.labels}


def of_label(device: Device, name: str) -> dict[str, int]:
    """One with one label, by its values."""
    return {value: number for (value,), number in samples_by_name(device.statistics())[name]}


def test_rows_are_explained() -> None:
    for row in STATISTICS:
        assert row.help.endswith(".")
        assert bool(row.unit) is (row.kind is Kind.GAUGE)
        assert row.like in ("", "zswap", "zram", "frontswap")


def test_a_name_is_in_the_table_once() -> None:
    assert len({row.name for row in STATISTICS}) == len(STATISTICS)


# Parts of which a device may have none.
FEW = {TierStatistics, PluginStatistics, MirrorStatistics, LatencyStatistics}


@pytest.mark.parametrize("layout", ["device", "placed", "tiered"])
def test_what_is_declared_is_delivered_and_nothing_else(
    request: pytest.FixtureRequest, layout: str
) -> None:
    made = request.getfixturevalue(layout)
    device = made.device if isinstance(made, Tiered) else made
    parts = list(device.parts())
    missing = {MirrorStatistics, LatencyStatistics} if layout == "tiered" else FEW
    assert {type(part) for part in parts} == set(PARTS) - missing
    declared = [row for part in parts for row in rows_of(type(part))]
    lacking = {row.name for part in missing for row in rows_of(part)}
    there = [row for row in STATISTICS if row.name not in lacking]
    assert set(declared) == set(there)
    now = device.statistics()
    assert len(now) == len(declared), "two parts deliver the same"
    by_name = samples_by_name(now)
    assert set(by_name) == {row.name for row in there}
    for row in there:
        for values, number in by_name[row.name]:
            assert len(values) == len(row.labels)
            assert type(number) is int


def test_what_is_no_statistic_is_known() -> None:
    """A number that somebody forgot to declare would be missing everywhere else."""
    assert all(map(is_dataclass, PARTS))
    undeclared = {(part, one.name) for part in PARTS for one in fields(part) if not one.metadata}
    labels = {(part, label) for part in PARTS for row in rows_of(part) for label in row.labels}
    assert undeclared - labels == {
        (CacheStatistics, "pool_limit_bytes"),  # a parameter
        (CacheStatistics, "payload_bytes_saved"),  # two rows share it out
        (CopierStatistics, "objects_copied"),
        (CopierStatistics, "given_up"),
    }


def test_pages_and_bytes_by_codec(device: Device) -> None:
    for page, data in enumerate(pages.CORPUS.values()):
        device.swapfile.write(page * PAGE_SIZE, memoryview(data))
    device.cache.encoder.set_compressor("zstd:1")
    device.swapfile.write(200 * PAGE_SIZE, memoryview(pages.compressible(200)))
    now, by_pages, by_bytes = (
        read(device), of_label(device, "codec_pages"), of_label(device, "codec_bytes")
    )  # fmt: skip
    assert list(by_pages) == list(by_bytes) == ["raw", "lz4", "zstd", "fill", "zstd_dictionary"]
    for codec in ("raw", "lz4", "zstd", "zstd_dictionary"):
        assert by_pages[codec] == now[f"{codec}_pages"]
        assert by_bytes[codec] == now[f"{codec}_bytes"]
    assert by_pages["zstd"] == 1
    assert sum(by_bytes.values()) == now["compr_data_size"]
    assert by_bytes["fill"] == 8 * by_pages["fill"] > 0


async def test_stores_by_backend(placed: Tiered, nursery: trio.Nursery) -> None:
    nursery.start_soon(placed.writeback.run)
    await placed.write(1, pages.compressible(1))
    placed.cache.encoder.max_compression_ratio = 10
    for page in range(2, 5):
        await placed.write(page, pages.incompressible(page))
    assert placed.device.frontswap.load(PageNumber(1)) is not None
    assert placed.device.frontswap.load(PageNumber(900)) is None
    now = read(placed.device)
    assert of_label(placed.device, "backend_stores") == {"cache": 1, "file": 3}
    assert of_label(placed.device, "backend_refusals") == {"cache": 3, "file": 0}
    assert of_label(placed.device, "backend_loads") == {"cache": 1, "file": 0}
    assert (now["succ_stores"], now["in_place_stores"]) == (4, 3)


async def test_numbers_by_tier(tiered: Tiered) -> None:
    page = (await tiered.move_out())[0]
    await tiered.read(page)
    now, moved = read(tiered.device), tiered.entry.extents.in_use
    assert of_label(tiered.device, "tier_extents") == {"fake": EXTENTS}
    assert of_label(tiered.device, "tier_segments") == {"fake": moved}
    assert of_label(tiered.device, "tier_written_bytes") == {"fake": moved * MIB}
    assert 0 < of_label(tiered.device, "tier_read_bytes")["fake"] <= now["bd_reads"] * PAGE_SIZE
    assert of_label(tiered.device, "tier_failed_writes") == {"fake": 0}


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
    device.cache.encoder.non_same_filled_pages_enabled = False
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
    appended = sum(map(footprint, (8, compressed, PAGE_SIZE)))
    names = [row.name for row in STATISTICS if row.kind is Kind.COUNTER and not row.labels]
    counters = {name: now[name] for name in names if now[name]}
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
    counters = [s.name for s in STATISTICS if s.kind is Kind.COUNTER and not s.labels]
    numbers = read(device)
    before = [numbers[name] for name in counters]
    for page in range(300):
        device.swapfile.write(page % 40 * PAGE_SIZE, memoryview(pages.compressible(page)))
        device.swapfile.punch(page % 7 * PAGE_SIZE, 2 * PAGE_SIZE)
        numbers = read(device)
        now = [numbers[name] for name in counters]
        assert all(new >= old for new, old in zip(now, before, strict=True))
        before = now
