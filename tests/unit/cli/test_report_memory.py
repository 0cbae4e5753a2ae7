"""The pictures of memory have the numbers of `status`, and these add up."""

from __future__ import annotations

from fuseswap.cli.report_memory import pictures
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.metrics_text import parse_metrics
from fuseswap.filesystem.openmetrics import render_metrics
from fuseswap.filesystem.parameters import find_parameter, set_parameter
from fuseswap.units import PAGE_SIZE
from tests.support import pages


def tables(stats: dict[str, int]) -> dict[str, list[list[str]]]:
    return {one.heading: [list(row) for row in one.rows] for one in pictures(stats, [])}


def used(device: Device) -> dict[str, int]:
    set_parameter(device, find_parameter("dedup"), "on")
    for page in range(300):
        device.swapfile.write(page * PAGE_SIZE, memoryview(pages.compressible(page % 90)))
    for page in range(300, 320):
        device.swapfile.write(page * PAGE_SIZE, memoryview(pages.incompressible(page)))
        device.swapfile.write((page + 50) * PAGE_SIZE, memoryview(pages.filled(page)))
    return parse_metrics(render_metrics(device))


def test_the_ledger_adds_up_to_the_byte(device: Device) -> None:
    stats = used(device)
    *parts, (last, memory) = tables(stats)["From pages to memory"]
    assert parts[0] == ["stored", str(340 * PAGE_SIZE)]
    assert {"same-filled pages", "duplicates", "compression"} <= {name for name, _ in parts}
    assert sum(int(number) for _, number in parts) == int(memory) == stats["mem_used_total"]
    assert last == "memory"


def test_so_do_the_parts_of_memory(device: Device) -> None:
    stats = used(device)
    sizes = {name: int(size) for name, size in tables(stats)["What takes memory now"]}
    assert sum(sizes.values()) == stats["mem_used_total"] + stats["mem_fixed"]
    assert sizes["index of contents, for duplicates"] == stats["dedup_index_bytes"] > 0


def test_each_codec_has_its_pages(device: Device) -> None:
    rows = tables(used(device))["By codec"]
    assert [row[0] for row in rows] == ["incompressible", "lz4"]
    assert sum(int(row[1]) for row in rows) == 320
    assert rows[0][1:] == ["20", str(20 * PAGE_SIZE)]


def test_a_worker_without_the_numbers_has_no_picture() -> None:
    assert tables({}) == {}
    assert tables({"orig_data_size": 4096, "stored_pages": 1}) == {}


def test_what_grew_by_compressing_again_is_drawn_too(device: Device) -> None:
    """An estimate may be below zero: the bar begins where it ends."""
    stats = used(device)
    stats["recompression_bytes_saved"] = -5000
    stats["compression_bytes_saved"] += 5000
    *parts, (_, memory) = tables(stats)["From pages to memory"]
    assert ["compressed again, harder", "5000"] in parts
    assert sum(int(number) for _, number in parts) == int(memory)
