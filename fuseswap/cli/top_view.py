"""A snapshot of the devices as text of so many columns, or as an object for JSON.

Two tables: what a device holds, and what it does.  Each fits 80 columns with any number.  Where a
line has room for both, they are one; where it has none for one, that is several, each with the
names.  Below them is a line for each tier there is.  It is text alone, without colours.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fuseswap.cli.rates import Rates, format_rate
from fuseswap.cli.sampling import DeviceSnapshot, Snapshot
from fuseswap.cli.status import COLUMNS as STATUS_COLUMNS
from fuseswap.cli.status import show
from fuseswap.cli.tier_lines import format_us, shown
from fuseswap.cli.tier_numbers import numbers_by_tier, tiers_in
from fuseswap.sizes import format_size
from fuseswap.units import PAGE_SIZE

_MIN_NAME_WIDTH = 5
_LEAST_WIDTH = 20


@dataclass(frozen=True, slots=True)
class Column:
    """One column; ``width`` is what any sensible number needs."""

    name: str
    width: int
    help: str
    show: Callable[[DeviceSnapshot], str]


def _status(name: str, width: int) -> Column:
    column = next(column for column in STATUS_COLUMNS if column.name == name)
    return Column(
        name, width, column.help, lambda snapshot: show(column, snapshot.status, in_bytes=False)
    )


def _rate(name: str, width: int, help_: str, counter: str, *, in_bytes: bool = False) -> Column:
    def show_rate(snapshot: DeviceSnapshot) -> str:
        per_second = snapshot.rates.per_second.get(counter) if snapshot.rates else None
        if per_second is None:
            return "-"
        return format_size(int(per_second * PAGE_SIZE)) if in_bytes else format_rate(per_second)

    return Column(name, width, help_, show_rate)


def _cpu(snapshot: DeviceSnapshot) -> str:
    percent = snapshot.worker_cpu_percent
    return "-" if percent is None else f"{percent:.0f}"


def _time(name: str, help_: str, statistic: str) -> Column:
    def show_time(snapshot: DeviceSnapshot) -> str:
        return format_us(snapshot.status["stats"].get(statistic, 0))

    return Column(name, 6, help_, show_time)


_NAME = _status("NAME", _MIN_NAME_WIDTH)
HELD = (
    _status("STATE", 8),
    _status("DISKSIZE", 8),
    _status("DATA", 7),
    _status("COMPR", 7),
    _status("TOTAL", 7),
    _status("RATIO", 6),
    Column("CPU%", 4, "processor time of the worker, 100 is one processor", _cpu),
    _status("RESTARTS", 8),
)
DONE = (
    _rate("LOAD/s", 6, "pages loaded from memory", "loads"),
    _rate("STORE/s", 7, "pages stored", "succ_stores"),
    _rate("FREE/s", 6, "pages freed by the kernel", "invalidates"),
    _rate("WB-OUT/s", 8, "written to tiers, or in place", "bd_writes", in_bytes=True),
    _rate("WB-IN/s", 7, "read from there", "bd_reads", in_bytes=True),
    _rate("TIER/s", 6, "pages loaded from there", "tier_loads"),
    _rate("RECOMP/s", 8, "pages recompressed", "recompressed_pages"),
    _time("LD-P99", "99 of 100 loads from memory took less", "latency_p99_us.load.memory"),
    _time("ST-P99", "99 of 100 stores to memory took less", "latency_p99_us.store.memory"),
)
COLUMNS = (_NAME, *HELD, *DONE)
# Of a tier, with widths; what they say is in ``tier_lines.py``.
TIER_COLUMNS = {
    "SIZE": 6, "USED": 6, "SEGS": 5, "PAGES": 7, "READ/s": 6, "WRITE/s": 7, "ERRORS": 6, "P50": 6,
    "P99": 6,
}  # fmt: skip


def in_words(snapshot: Snapshot, interval_s: float, absent: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns (20 or more), but for the reasons below the tables.

    ``absent`` is said where there are no devices.
    """
    lines = textwrap.wrap(_headline(snapshot, interval_s), max(width, _LEAST_WIDTH))
    if not snapshot.devices:
        return [*lines, "", absent]
    longest = max(len(device.status["name"]) for device in snapshot.devices)
    needed = longest + sum(column.width + 1 for column in (*HELD, *DONE))
    tables = ((*HELD, *DONE),) if needed <= width else (HELD, DONE)
    for columns in tables:
        lines += _table(columns, snapshot.devices, width)
    lines += _tiers(snapshot.devices, width)
    notes = [note for device in snapshot.devices for note in _notes(device)]
    return [*lines, "", *notes] if notes else lines


def as_object(snapshot: Snapshot) -> dict[str, Any]:
    """All of it with plain numbers: counters, and their rates a second."""
    return {
        "time": round(snapshot.time, 3),
        "memory_some_avg10_percent": snapshot.memory_some_avg10_percent,
        **snapshot.traffic,
        "rates": _rates(snapshot.traffic_rates),
        "devices": [_device(device) for device in snapshot.devices],
    }


def _headline(snapshot: Snapshot, interval_s: float) -> str:
    parts = [time.strftime("%H:%M:%S", time.localtime(snapshot.time)), f"every {interval_s:g} s"]
    if snapshot.memory_some_avg10_percent is not None:
        parts.append(f"memory pressure {snapshot.memory_some_avg10_percent:.1f} %")
    if snapshot.traffic_rates:
        swapped = snapshot.traffic_rates.per_second
        parts += [
            f"{way} {format_rate(swapped[name])}/s"
            for way, name in (("swap in", "pswpin"), ("out", "pswpout"))
            if name in swapped
        ]
    return "  ".join(parts)


def _table(columns: Sequence[Column], devices: Sequence[DeviceSnapshot], width: int) -> list[str]:
    """Headings and a line for each device."""
    return _laid_out(
        [_NAME.name, *(_NAME.show(device) for device in devices)],
        [(column.name, column.width) for column in columns],
        [[column.show(device) for column in columns] for device in devices],
        width,
    )


def _tiers(devices: Sequence[DeviceSnapshot], width: int) -> list[str]:
    """Headings and a line for each tier; nothing where there is none."""
    found = [(device, tier) for device in devices for tier in _tiers_of(device)]
    if not found:
        return []
    names = [f"{device.status['name']}:{tier['name']}" for device, tier in found]
    rows = [shown(tier, TIER_COLUMNS) for _, tier in found]
    return _laid_out(["TIER", *names], list(TIER_COLUMNS.items()), rows, width)


def _tiers_of(device: DeviceSnapshot) -> list[dict[str, Any]]:
    stats = device.status["stats"]
    found = tiers_in("", stats, numbers_by_tier(stats))
    return [tier.with_rates(device.rates).to_json() for tier in found]


def _laid_out(
    names: Sequence[str],
    columns: Sequence[tuple[str, int]],
    rows: Sequence[Sequence[str]],
    width: int,
) -> list[str]:
    """As many tables as it takes to fit, an empty line before each."""
    lines = []
    for some in _fitting(columns, rows, width):
        chosen = [[row[at] for at in some] for row in rows]
        lines += ["", *_one_table(names, [columns[at] for at in some], chosen, width)]
    return lines


def _fitting(
    columns: Sequence[tuple[str, int]], rows: Sequence[Sequence[str]], width: int
) -> list[list[int]]:
    """Which of ``columns`` are in each table, so that there is room for a name."""
    tables: list[list[int]] = [[]]
    left = width - _MIN_NAME_WIDTH
    for at, (heading, least) in enumerate(columns):
        needed = 1 + max(least, len(heading), *(len(row[at]) for row in rows))
        if needed > left and tables[-1]:
            tables.append([])
            left = width - _MIN_NAME_WIDTH
        tables[-1].append(at)
        left -= needed
    return tables


def _one_table(
    names: Sequence[str],
    columns: Iterable[tuple[str, int]],
    shown_rows: Sequence[Sequence[str]],
    width: int,
) -> list[str]:
    """Columns with their widths, numbers to the right; ``names``, and a heading, have the rest."""
    rows = [[heading for heading, _ in columns], *shown_rows]
    widths = [max(least, *(len(row[at]) for row in rows)) for at, (_, least) in enumerate(columns)]
    room = max(_MIN_NAME_WIDTH, width - sum(widths) - len(widths))
    room = min(room, max(_MIN_NAME_WIDTH, *map(len, names)))
    lines = []
    for name, row in zip(names, rows, strict=True):
        cells = [_cut(name, room).ljust(room)]
        for heading, cell, cell_width in zip(rows[0], row, widths, strict=True):
            cells.append(cell.ljust(cell_width) if heading == "STATE" else cell.rjust(cell_width))
        lines.append(" ".join(cells))
    return lines


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}~"


def _notes(device: DeviceSnapshot) -> list[str]:
    notes = []
    if device.status["reason"]:
        notes.append(device.status["reason"])
    if device.rates and device.rates.anew:
        notes.append("another worker: counters began at 0")
    name = device.status["name"]
    return ["".join(c if c.isprintable() else " " for c in f"{name}: {note}") for note in notes]


def _device(device: DeviceSnapshot) -> dict[str, Any]:
    status = {key: value for key, value in device.status.items() if key in _FIELDS}
    return {
        **status,
        "stats": device.status["stats"],
        "rates": _rates(device.rates),
        "worker_cpu_percent": _round(device.worker_cpu_percent),
        "supervisor_cpu_percent": _round(device.supervisor_cpu_percent),
    }


_FIELDS = (
    "name", "status", "reason", "size_bytes", "swap_priority", "swap_used_bytes",
    "supervisor_pid", "worker_pid", "restarts",
)  # fmt: skip


def _rates(found: Rates | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "seconds": round(found.seconds, 3),
        "anew": found.anew,
        "per_second": {name: round(rate, 3) for name, rate in found.per_second.items()},
    }


def _round(number: float | None) -> float | None:
    return None if number is None else round(number, 1)
