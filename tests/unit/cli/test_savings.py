"""The ledger of ``status NAME``: every line there is, none that says nothing, and 80 columns."""

from __future__ import annotations

from fuseswap.cli.savings import core_of, savings
from fuseswap.codecs.codec import MAX_NAME_BYTES
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.units import PAGE_SIZE
from tests.support import pages


def statistics_of(device: Device) -> dict[str, int]:
    now = device.statistics()
    return {row.name: now[row.name] for row in STATISTICS if not row.labels}


def titles(lines: list[str]) -> list[str]:
    return [line[2:19].strip() for line in lines]


def test_a_worker_without_the_numbers_has_no_ledger() -> None:
    assert savings({}, in_bytes=False) == []
    assert savings({"orig_data_size": 4096, "stored_pages": 1}, in_bytes=False) == []


def test_an_empty_device(device: Device) -> None:
    lines = savings(statistics_of(device), in_bytes=False)
    assert titles(lines) == ["", "stored", "metadata", "unused", "memory", "fixed", "core"]


def test_how_the_core_runs_is_said_where_it_is_known() -> None:
    assert core_of({}) is None
    assert core_of({"core_compiled": 0}) == "interpreted"
    assert core_of({"core_compiled": 1}) == "compiled"


def test_it_adds_up(device: Device) -> None:
    for page, data in enumerate(pages.CORPUS.values()):
        device.swapfile.write(page * PAGE_SIZE, memoryview(data))
    lines = savings(statistics_of(device), in_bytes=True)
    assert titles(lines) == [
        "", "stored", "same-filled", "compression", "metadata", "unused", "memory", "fixed", "core",
        "", "incompressible", "lz4",
    ]  # fmt: skip
    *parts, memory = [int(line[19:].split()[0]) for line in lines[1:7]]
    assert sum(parts) == memory


def test_what_recompression_cost_stands_beside_what_it_saved(device: Device) -> None:
    stats = statistics_of(device) | {"recompression_bytes_saved": 4096}
    for used_us, said in ((0, "estimated"), (12_345_678, "estimated, for 12.3 s of processor")):
        lines = savings(stats | {"recompress_cpu_us": used_us}, in_bytes=False)
        assert [line.split("  ")[-1] for line in lines if "recompression" in line] == [said]


def test_every_line_there_can_be_fits_80_columns() -> None:
    largest = 16 << 40  # bytes of a swapfile
    most = {statistic.name: largest for statistic in STATISTICS}
    most |= {"duplicate_bytes_saved": largest, "duplicate_pages": 1 << 32}
    for statistic in STATISTICS:
        if statistic.unit == "pages":
            most[statistic.name] = 1 << 32
    most["bd_count"] = 1 << 32
    for in_bytes in (False, True):
        lines = savings(most, in_bytes=in_bytes)
        assert len(lines) == 19
        assert max(map(len, lines)) <= 80


def test_a_registered_codec_has_a_line(device: Device) -> None:
    stats = statistics_of(device)
    stats |= {"codec_pages.fill": 5, "codec_bytes.fill": 40, "codec_pages.lz4": 0}
    name = "x" * MAX_NAME_BYTES
    stats |= {f"codec_pages.{name}": 1 << 32, f"codec_bytes.{name}": 4000 << 32}
    for in_bytes in (False, True):
        *_, line = savings(stats, in_bytes=in_bytes)
        assert titles([line]) == [name[:17]]
        assert line.endswith("  4294967296 pages, 4000 bytes each")
        assert len(line) <= 80
    stats[f"codec_pages.{name}"] = 0
    assert len(savings(stats, in_bytes=True)) == len(savings(statistics_of(device), in_bytes=True))
