"""How long requests took, by where they were answered, as ``fuseswap status NAME`` shows it.

Times are of all requests since the device is up, a replaced worker's among them.
"""

from __future__ import annotations

from fuseswap.cli.savings import savings
from fuseswap.cli.tier_lines import format_us

_TITLES = {"load": "load", "store": "store", "turn": "a turn of"}
_SHOWN = (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"), ("max", "max"))
_FIRST = "latency_max_us"


def ledger_and_times(stats: dict[str, int], *, in_bytes: bool) -> list[str]:
    """The bytes that each trick saved, and below them the times."""
    return [*savings(stats, in_bytes=in_bytes), *latency_lines(stats)]


def latency_lines(stats: dict[str, int]) -> list[str]:
    """A block with an empty line before it; nothing where there was no request."""
    rows = []
    for key in stats:
        name, _, labels = key.partition(".")
        request, _, place = labels.partition(".")
        if name == _FIRST:
            times = (
                f"{shown} {format_us(stats.get(f'latency_{which}_us.{labels}', 0)):>6}"
                for which, shown in _SHOWN
            )
            rows.append((f"{_TITLES.get(request, request)} {place}", "  ".join(times)))
    if not rows:
        return []
    width = max(17, *(len(title) + 1 for title, _ in rows))
    return ["", *(f"  {title:<{width}}{times}" for title, times in rows)]
