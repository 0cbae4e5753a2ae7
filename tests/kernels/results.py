"""The results of all runs: one JSON line each, in the cache; and the table made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.kernels import cache
from tests.kernels.scenario import parse

Record = dict[str, Any]
_COLUMNS = (
    "scenario", "source", "passed", "seconds", "of file", "bad", "hung", "OOM", "refused",
    "failed", "longest", "swapped", "why",
)  # fmt: skip


def path() -> Path:
    """The file."""
    return cache.directory() / "results.jsonl"


def append(record: Record) -> None:
    """One run more."""
    with open(path(), "a") as file:
        file.write(json.dumps(record) + "\n")


def read(file: Path) -> list[Record]:
    """Every run so far."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def file_seconds(records: Iterable[Record], record: Record) -> float | None:
    """What the same hog took on a plain swap file: the median of the passed runs."""
    wanted = parse(record["scenario"]).on("file").name
    load = record.get("load")
    times = sorted(
        other["seconds"]
        for other in records
        if other["scenario"] == wanted and other["passed"] and other.get("load") == load
    )
    return times[len(times) // 2] if times else None


def table(records: Sequence[Record], shown: Iterable[Record]) -> str:
    """Readable lines of ``shown``; ``records`` has the controls they are compared with."""
    rows = [_COLUMNS, *(_row(records, record) for record in shown)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(records: Sequence[Record], record: Record) -> tuple[str, ...]:
    control = file_seconds(records, record)
    seconds = record["seconds"]
    statistics = record["statistics"]
    compared = control and seconds and record["passed"]
    silence = record["longest_silence_s"]
    return (
        record["scenario"],
        record["source"],
        "yes" if record["passed"] else "NO",
        f"{seconds:.0f}" if seconds is not None else "-",
        f"{seconds / control:.2f}" if compared and control else "-",
        str(record["bad_pages"]),
        str(len(record["hung_tasks"])),
        ",".join(record["oom_kills"]) or "-",
        str(statistics.get("failed_stores", "-")),
        str(statistics.get("failed_requests", "-")),
        f"{silence:.1f}" if silence is not None else "-",
        str(record["swapped_mib"]),
        "; ".join(record["why"]) or "-",
    )
