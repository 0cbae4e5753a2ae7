"""A line for each tier, as ``fuseswap status NAME`` and ``fuseswap top`` show it.

Times are of the last reads, rates between two looks; ``-`` where there was none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fuseswap.cli.rates import format_rate
from fuseswap.daemon.attachment import MAY_FORGET
from fuseswap.sizes import format_size

HEADINGS = (
    "TIER", "STATE", "PRIO", "SIZE", "USED", "SEGS", "PAGES", "READ/s", "WRITE/s", "ERRORS",
    "P50", "P99",
)  # fmt: skip


def shown(
    tier: dict[str, Any], headings: Iterable[str] = HEADINGS, *, in_bytes: bool = False
) -> list[str]:
    """What stands below ``headings`` for one tier, as `TierNumbers.to_json` has it."""
    size = str if in_bytes else format_size
    priority, reads, writes = tier["priority"], tier["reads_per_s"], tier["writes_per_s"]
    cells = {
        "TIER": tier["name"],
        "STATE": tier["state"],
        "PRIO": "-" if priority is None else str(priority),
        "SIZE": size(tier["size_bytes"]),
        "USED": size(tier["used_bytes"]),
        "SEGS": str(tier.get("segments", 0)),
        "PAGES": str(tier.get("pages", 0)),
        "READ/s": "-" if reads is None else format_rate(reads),
        "WRITE/s": "-" if writes is None else format_rate(writes),
        "ERRORS": str(tier["errors"]),
        "P50": format_us(tier.get("read_p50_us", 0)),
        "P99": format_us(tier.get("read_p99_us", 0)),
    }
    return [cells[heading] for heading in headings]


def notes(tiers: Iterable[dict[str, Any]]) -> list[str]:
    """What a person should know of them."""
    return [f"tier '{tier['name']}' {MAY_FORGET}" for tier in tiers if tier["may_forget"]]


def format_us(microseconds: int) -> str:
    """A time of a read, in at most 6 characters up to a day; ``-`` for 0, which is none."""
    if not microseconds:
        return "-"
    if microseconds < 10000:
        return f"{microseconds}us"
    if microseconds < 9999500:
        return f"{microseconds / 1000:.0f}ms"
    return f"{microseconds / 1e6:.0f}s"
