"""What a simulation counts, and the table that it prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fuseswap.sizes import format_size

_STEPS = 50  # of a decade: a percentile is up to 4.7 % too large
_LEAST_S = 1e-7
_log10 = math.log10


class Times:
    """Durations, by logarithm: the mean is exact, memory is bounded."""

    def __init__(self) -> None:
        self.count = 0
        self._sum_s = 0.0
        self._counts: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """One more."""
        self.count += 1
        self._sum_s += seconds
        at = -1 if seconds < _LEAST_S else int(_log10(seconds / _LEAST_S) * _STEPS)
        self._counts[at] = self._counts.get(at, 0) + 1

    @property
    def mean_s(self) -> float:
        """0 where there is none."""
        return self._sum_s / self.count if self.count else 0.0

    def percentile_s(self, percent: float) -> float:
        """So many took no longer."""
        left = self.count * percent / 100
        for at, count in sorted(self._counts.items()):
            left -= count
            if left <= 0:
                return 0.0 if at < 0 else _LEAST_S * 10 ** ((at + 1) / _STEPS)
        return 0.0


@dataclass(slots=True)
class Results:
    """Of one configuration."""

    name: str
    faults: Times = field(default_factory=Times)
    stores: Times = field(default_factory=Times)
    places: dict[str, int] = field(default_factory=dict)  # of loads
    swap_cache: int = 0  # loads of a page whose store was under way
    refused: int = 0
    errors: int = 0
    checked: int = 0
    compressed_bytes: int = 0  # of stores, as they were kept
    written: dict[str, int] = field(default_factory=dict)  # bytes, by tier
    copied_bytes: int = 0
    memory: list[int] = field(default_factory=list)  # bytes, at each tenth of the time
    memory_peak: int = 0
    memory_sum: int = 0  # of looks, once a second
    memory_looks: int = 0
    seconds: float = 0.0
    processor_s: float = 0.0  # of this process, not in the table: it is not the same each time

    @property
    def hit_ratio(self) -> float:
        """Loads answered from memory, of all loads: 0 to 1."""
        loads = sum(self.places.values())
        return self.places.get("memory", 0) / loads if loads else 0.0

    @property
    def memory_mean(self) -> int:
        """Bytes, over the whole time."""
        return self.memory_sum // self.memory_looks if self.memory_looks else 0

    def lines(self) -> list[tuple[str, str]]:
        """Names and values."""
        loads = sum(self.places.values())
        written = sum(self.written.values())
        amplification = written / self.compressed_bytes if self.compressed_bytes else 0.0
        return [
            ("time", f"{self.seconds:.1f} s"),
            ("loads", str(loads)),
            *(
                (f"from {name}", _share(count, loads))
                for name, count in sorted(self.places.items())
            ),
            ("fault mean", _us(self.faults.mean_s)),
            ("fault p99", _us(self.faults.percentile_s(99))),
            ("stores", str(self.stores.count)),
            ("store mean", _us(self.stores.mean_s)),
            ("store p99", _us(self.stores.percentile_s(99))),
            ("refused", str(self.refused)),
            ("errors", str(self.errors)),
            ("kept", format_size(self.compressed_bytes)),
            *((f"written to {name}", format_size(n)) for name, n in sorted(self.written.items())),
            ("written / kept", f"{amplification:.2f}"),
            ("copied", format_size(self.copied_bytes)),
            ("memory mean", format_size(self.memory_mean)),
            ("memory peak", format_size(self.memory_peak)),
            ("memory", " ".join(f"{held >> 20}" for held in self.memory) + " MiB"),
        ]


def _share(count: int, of: int) -> str:
    return f"{100 * count / of:.2f} %" if of else "-"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us"


def table(all_results: Sequence[Results]) -> str:
    """A column for each, in the order given."""
    columns = [dict(one.lines()) for one in all_results]
    names = list(dict.fromkeys(name for one in all_results for name, _ in one.lines()))
    order = [name for name, _ in Results("").lines()]
    names.sort(key=lambda name: _place(name, order))
    rows = [["", *(one.name for one in all_results)]]
    rows += [[name, *(column.get(name, "-") for column in columns)] for name in names]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _place(name: str, order: list[str]) -> tuple[int, str]:
    """Rows of tiers stand behind the row that they belong to."""
    for start, before in (("from ", "loads"), ("written to ", "kept")):
        if name.startswith(start):
            return order.index(before), name
    return order.index(name), ""
