"""How a snapshot is shown: 80 columns whatever the numbers, and the shape of the JSON."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from fuseswap.cli.rates import Rates, format_rate
from fuseswap.cli.sampling import DeviceSnapshot, Snapshot
from fuseswap.cli.top_view import COLUMNS, DONE, HELD, as_object, in_words
from fuseswap.counting import Kind
from fuseswap.filesystem.statistics import STATISTICS

COUNTERS = [s.name for s in STATISTICS if s.kind is Kind.COUNTER]
HUGE = 16 << 40  # bytes, of a swapfile
ABSENT = "none there"


def device(
    name: str = "swap0",
    stats: dict[str, int] | None = None,
    per_second: float | None = 0.0,
    cpu: float | None = 12.34,
    **status: Any,
) -> DeviceSnapshot:
    fields = {
        "name": name,
        "status": "running",
        "reason": None,
        "size_bytes": HUGE,
        "swap_priority": 100,
        "swap_used_bytes": 0,
        "supervisor_pid": 10,
        "worker_pid": 11,
        "restarts": 0,
        "loop": "/dev/loop0",
        "log": ["a line"],
        "stats": {statistic.name: 0 for statistic in STATISTICS} if stats is None else stats,
        "params": {},
    }
    changes = None
    if per_second is not None:
        changes = Rates(2.0, dict.fromkeys(COUNTERS, per_second), anew=False)
    return DeviceSnapshot(fields | status, changes, cpu, cpu)


def snapshot(
    *devices: DeviceSnapshot, percent: float | None = 0.0, per_second: float = 0.0
) -> Snapshot:
    traffic = {"pswpin": 5, "pswpout": 6}
    changes = Rates(2.0, dict.fromkeys(traffic, per_second), anew=False)
    return Snapshot(1e9, percent, traffic, changes, list(devices))


def cells(lines: list[str]) -> dict[str, str]:
    """The row of the first device by column, of one table or two."""
    found: dict[str, str] = {}
    for headings, row in itertools.pairwise(lines):
        if headings.startswith("NAME"):
            found |= dict(zip(headings.split(), row.split(), strict=True))
    return found


@pytest.mark.parametrize(
    ("per_second", "text"),
    [
        (0.0, "0"), (0.04, "0"), (0.5, "0.5"), (9.94, "9.9"), (9.96, "10"), (1234.4, "1234"),
        (1e14, "100T"),
        (99999.4, "99999"), (99999.6, "100K"), (99999499.0, "99999K"), (123456789.0, "123M"),
    ],
)  # fmt: skip
def test_rates_are_short(per_second: float, text: str) -> None:
    assert format_rate(per_second) == text


def test_every_column_is_there_in_80_and_in_one_row_where_there_is_room() -> None:
    names = [column.name for column in COLUMNS]
    narrow = in_words(snapshot(device()), 2.0, ABSENT, 80)
    assert sum(line.startswith("NAME") for line in narrow) == 2
    assert list(cells(narrow)) == names
    wide = in_words(snapshot(device()), 2.0, ABSENT, 200)
    assert sum(line.startswith("NAME") for line in wide) == 1
    assert cells(wide) == cells(narrow)


@pytest.mark.parametrize("number", [0, 1, HUGE - 1, HUGE, 1 << 63])
@pytest.mark.parametrize("per_second", [0.0, 0.001, 9.949, 99999.5, 1e12])
def test_80_columns_hold_any_number(number: int, per_second: float) -> None:
    stats = {statistic.name: number for statistic in STATISTICS}
    stats["mem_used_total"] = max(1, number >> 20)
    full = [
        device("s" * length, stats, per_second, cpu=12800.0, status=state, restarts=12345678)
        for length, state in ((1, "running"), (32, "degraded"))
    ]
    lines = in_words(snapshot(*full, percent=100.0, per_second=per_second), 86400.0, ABSENT, 80)
    assert max(map(len, lines)) <= 80
    starts = {line.index(" ") for line in lines if line.startswith("s")}
    assert starts <= {1, *range(5, 33)}


@pytest.mark.parametrize("width", [20, 40, 60, 79])
def test_a_narrow_terminal_has_more_tables_and_every_column(width: int) -> None:
    shown = in_words(snapshot(device("swap0"), device("b" * 32)), 2.0, ABSENT, width)
    assert max(map(len, shown)) <= width
    headings = [line.split() for line in shown if line.startswith("NAME")]
    assert len(headings) > 1
    found = [name for heading in headings for name in heading if name != "NAME"]
    assert found == [column.name for column in (*HELD, *DONE)]
    assert sum(line.startswith("swap0") for line in shown) == len(headings)


def test_there_is_no_colour_to_do_without() -> None:
    """NO_COLOR asks for what is so anyway."""
    shown = in_words(snapshot(device(), device(status="silent", reason="why")), 2.0, ABSENT, 80)
    assert all(line.isprintable() for line in shown)


def test_numbers_stand_below_their_headings() -> None:
    stats = {statistic.name: 3 << 30 for statistic in STATISTICS}
    lines = in_words(snapshot(device(stats=stats, per_second=1234.0)), 2.0, ABSENT, 80)
    for at, line in enumerate(lines):
        if line.startswith("NAME"):
            for column in (*HELD, *DONE):
                if column.name in line and column.name != "STATE":
                    end = line.index(column.name) + len(column.name)
                    assert lines[at + 1][end - 1] != " "
                    assert lines[at + 1][end : end + 1] in ("", " ")


def test_rates_per_column() -> None:
    known = device()
    assert known.rates is not None
    per_second = {
        "loads": 1.0, "succ_stores": 2.0, "invalidates": 3.0, "bd_writes": 256.0,
        "bd_reads": 512.0, "tier_loads": 4.0, "recompressed_pages": 5.0,
    }  # fmt: skip
    times = {"latency_p99_us.load.memory": 40, "latency_p99_us.store.memory": 12_345}
    status = {**known.status, "stats": times}
    some = DeviceSnapshot(status, Rates(2.0, per_second, anew=False), 7.6, None)
    row = cells(in_words(snapshot(some), 2.0, ABSENT, 80))
    shown = ["1", "2", "3", "1M", "2M", "4", "5", "40us", "12ms"]
    assert [row[column.name] for column in DONE] == shown
    assert row["CPU%"] == "8"


def test_a_silent_device_has_no_numbers_and_says_why() -> None:
    silent = device(stats={}, per_second=None, cpu=None, status="silent", reason="no\nanswer")
    lines = in_words(snapshot(silent), 2.0, ABSENT, 80)
    row = cells(lines)
    assert row.pop("NAME") == "swap0"
    assert (row.pop("STATE"), row.pop("DISKSIZE"), row.pop("RESTARTS")) == ("silent", "16T", "0")
    assert set(row.values()) == {"-"}
    assert lines[-1] == "swap0: no answer"


def test_another_worker_is_said() -> None:
    known = device()
    assert known.rates is not None
    other = DeviceSnapshot(known.status, Rates(2.0, known.rates.per_second, anew=True), None, None)
    assert "another worker" in in_words(snapshot(other), 2.0, ABSENT, 80)[-1]


def test_no_device_and_an_older_kernel() -> None:
    headline, *_, last = in_words(snapshot(percent=None), 0.5, ABSENT, 80)
    assert last == ABSENT
    assert "every 0.5 s" in headline
    assert "pressure" not in headline
    assert "pressure 1.5 %" in in_words(snapshot(percent=1.5), 0.5, ABSENT, 80)[0]


def test_json_has_counters_and_rates() -> None:
    silent = device("b", stats={}, per_second=None, cpu=None, status="silent", reason="why")
    found = json.loads(json.dumps(as_object(snapshot(device("a", per_second=1.5), silent))))
    assert set(found) == {
        "time", "memory_some_avg10_percent", "pswpin", "pswpout", "rates", "devices",
    }  # fmt: skip
    assert found["rates"] == {
        "seconds": 2.0, "anew": False, "per_second": {"pswpin": 0.0, "pswpout": 0.0},
    }  # fmt: skip
    first, second = found["devices"]
    assert set(first) == set(second) == {
        "name", "status", "reason", "size_bytes", "swap_priority", "swap_used_bytes",
        "supervisor_pid", "worker_pid", "restarts", "stats", "rates", "worker_cpu_percent",
        "supervisor_cpu_percent",
    }  # fmt: skip
    assert set(first["stats"]) == {statistic.name for statistic in STATISTICS}
    assert first["rates"]["per_second"] == dict.fromkeys(COUNTERS, 1.5)
    assert first["worker_cpu_percent"] == 12.3
    assert (second["stats"], second["rates"], second["worker_cpu_percent"]) == ({}, None, None)
    assert (second["status"], second["reason"]) == ("silent", "why")
