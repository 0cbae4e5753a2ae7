"""Pictures over time: histograms of how long requests took, and the last hour of `top --record`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from fuseswap.cli.charts import DASHED, LINE, SOLID, Series, columns, lines
from fuseswap.cli.drawing import Picture
from fuseswap.cli.rates import format_rate
from fuseswap.cli.recording import CPU, HOUR_S, PRESSURE, Moment
from fuseswap.cli.tier_lines import format_us
from fuseswap.filesystem.metrics_text import Times
from fuseswap.sizes import format_size

POINTS = 240  # of a line: 15 s each
_FIXED = {
    ("load", "memory"): ("Loads from memory", "Requests to read that were answered at once"),
    ("load", "file"): ("Loads from their places", "Requests to read from the file, in place"),
    ("load", "later"): ("Loads elsewhere", "Requests to read that another backend answered"),
    ("store", "memory"): ("Stores", "Requests to write that were answered at once"),
    ("store", "waited"): ("Stores that waited", "Requests to write that waited for room or data"),
    ("turn", "others"): ("Turns of others", "Turns of other tasks, while requests waited"),
}
_TIER = "tier:"


def histograms(times: Sequence[Times], stats: dict[str, int]) -> Iterator[Picture]:
    """One for each request and place, on a common axis."""
    used = sorted({bound for one in times for bound, count in one.buckets.items() if count})
    if not used:
        return
    bounds = sorted({bound for one in times for bound in one.buckets})
    first, last = bounds.index(used[0]), bounds.index(used[-1])
    # At least eight columns, so that one is no wall.
    last = min(len(bounds) - 1, max(last, first + 7))
    first = max(0, min(first, last - 7))
    for one in times:
        if any(one.buckets.values()):
            yield _histogram(one, bounds[first : last + 1], stats)


def _histogram(one: Times, bounds: Sequence[float], stats: dict[str, int]) -> Picture:
    counts = [one.buckets.get(bound, 0) for bound in bounds]
    named = [f"less than {format_us(math.ceil(bound * 1e6))}" for bound in bounds]
    shares = [100 * count / one.count for count in counts]
    key = f"{one.request}.{one.place}"
    known = [
        f"{shown} {format_us(us)}"
        for shown, which in (("p50", "p50"), ("p99", "p99"), ("longest", "max"))
        if (us := stats.get(f"latency_{which}_us.{key}"))
    ]
    title, what = _named(one)
    return Picture(
        title,
        f"{what}: {one.count} of them, and the share that took so long.",
        columns(
            f"histogram of {title}",
            [Series("share", shares, SOLID)],
            list(_ticks(bounds)),
            lambda share: f"{share:.0f} %",
            [f"{name}: {count}" for name, count in zip(named, counts, strict=True)],
            height=70,
            note=", ".join(known),
        ),
        ("took", "requests"),
        [(name, str(count)) for name, count in zip(named, counts, strict=True) if count],
    )


def _named(one: Times) -> tuple[str, str]:
    if one.place.startswith(_TIER):
        name = one.place.removeprefix(_TIER)
        return f"Loads from tier {name}", "Requests to read that waited for this tier"
    return _FIXED.get((one.request, one.place), (f"{one.request} {one.place}", "Requests"))


def _ticks(bounds: Sequence[float]) -> Iterator[tuple[float, str]]:
    """Places on the axis: ``bounds`` double from one to the next."""
    room = len(bounds)
    exponent = math.floor(math.log10(bounds[0] / 2 * 1e6))
    step = 1 if room <= 14 else 2
    while (where := math.log2(10**exponent / 1e6 / bounds[0]) + 1) <= room:
        if where >= 0:
            yield where, _short(10**exponent)
        exponent += step


def _short(microseconds: float) -> str:
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= size:
            return f"{microseconds / size:.0f} {unit}"
    return f"{microseconds:g} us"


@dataclass(frozen=True, slots=True)
class _Graph:
    heading: str
    explained: str
    unit: Callable[[float], str]
    # Name, keys whose sum it is; of the host where there is none.
    of: Sequence[tuple[str, tuple[str, ...]]]


def _percent(share: float) -> str:
    return f"{share:.0f} %" if share >= 10 or share == int(share) else f"{share:.1f} %"


def _bytes(size: float) -> str:
    return format_size(round(size))


_GRAPHS = (
    _Graph(
        "Memory over the hour",
        "Stored pages uncompressed (dashed), and the memory that they take.",
        _bytes,
        (("memory", ("memory_bytes",)), ("stored", ("stored_bytes",))),
    ),
    _Graph(
        "Pages a second",
        "Swapped out, and swapped in again (dashed), from memory and from tiers.",
        format_rate,
        (("out", ("stores_per_s",)), ("in", ("loads_per_s", "tier_loads_per_s"))),
    ),
    _Graph(
        "Tiers, or the backing file",
        "Bytes a second that were written there, and read from there (dashed).",
        _bytes,
        (("written", ("written_bytes_per_s",)), ("read", ("read_bytes_per_s",))),
    ),
    _Graph(
        "Stores that waited or were refused",
        "Pages a second for which there was no room at once, and none at all (dashed).",
        format_rate,
        (("waited", ("waits_per_s",)), ("refused", ("refused_per_s",))),
    ),
    _Graph(
        "Processor and memory pressure",
        "Processor time of the worker, 100 % is one processor; and the share of time in which a "
        "task of the machine waited for memory (dashed).",
        _percent,
        (("worker", (CPU,)), ("pressure", ())),
    ),
)


def last_hour(moments: Sequence[Moment], names: Sequence[str]) -> Iterator[Picture]:
    """Of the devices ``names`` together; nothing where the recording has none of them."""
    if not any(name in moment.devices for moment in moments for name in names):
        return
    newest, span = _span(moments)
    for graph in _GRAPHS:
        found = [[_number(moment, names, keys) for moment in moments] for _, keys in graph.of]
        if graph is not _GRAPHS[0] and not any(map(any, found)):
            continue  # nothing happened
        series = [
            Series(name, _thinned(moments, values, newest - span, span), style)
            for (name, _), values, style in zip(graph.of, found, (LINE, DASHED), strict=True)
        ]
        yield Picture(
            graph.heading,
            graph.explained,
            lines(
                graph.heading, series, list(_clock(newest - span, span)), graph.unit, steps=POINTS
            ),
            ("", "least", "mean", "most"),
            [
                _summary(name, values, graph.unit)
                for (name, _), values in zip(graph.of, found, strict=True)
            ],
        )


def when(moments: Sequence[Moment]) -> str:
    """Of what time the pictures are; there is a moment."""
    newest, span = _span(moments)
    start = time.strftime("%Y-%m-%d %H:%M", time.localtime(newest - span))
    end = time.strftime("%H:%M", time.localtime(newest))
    return f"From {start} to {end}. Each point is the greatest within {span / POINTS:.0f} s."


def _span(moments: Sequence[Moment]) -> tuple[float, float]:
    """The end, and seconds from the start to it: at least one for each point."""
    newest = moments[-1].time
    return newest, max(newest - max(newest - HOUR_S, moments[0].time), float(POINTS))


def _number(moment: Moment, names: Sequence[str], keys: Sequence[str]) -> float | None:
    if not keys:
        return moment.host.get(PRESSURE)
    known = [total for key in keys if (total := moment.total(names, key)) is not None]
    return sum(known) if known else None


def _thinned(
    moments: Sequence[Moment], values: Sequence[float | None], start: float, span: float
) -> list[float | None]:
    """The greatest of each `POINTS`th part.  Where there was one sample in several, it stays."""
    points: list[float | None] = [None] * POINTS
    for moment, value in zip(moments, values, strict=True):
        at = min(int((moment.time - start) / span * POINTS), POINTS - 1)
        if value is not None and at >= 0:
            points[at] = max(value, points[at] or 0.0)
    gap = _usual_gap(moments) / span * POINTS
    return _filled(points, max(1, math.ceil(2.5 * gap)))


def _usual_gap(moments: Sequence[Moment]) -> float:
    gaps = sorted(later.time - one.time for one, later in pairwise(moments))
    return gaps[len(gaps) // 2] if gaps else 0.0


def _filled(points: list[float | None], most: int) -> list[float | None]:
    """Points that miss between two, at most so far from each other, are on a straight line."""
    last = None
    for at, value in enumerate(points):
        if value is None:
            continue
        if last is not None and 1 < at - last <= most:
            before = points[last] or 0.0
            for between in range(last + 1, at):
                points[between] = before + (value - before) * (between - last) / (at - last)
        last = at
    return points


def _summary(
    name: str, values: Sequence[float | None], unit: Callable[[float], str]
) -> tuple[str, str, str, str]:
    known = [value for value in values if value is not None]
    if not known:
        return name, "-", "-", "-"
    return name, unit(min(known)), unit(sum(known) / len(known)), unit(max(known))


def _clock(start: float, span: float) -> Iterator[tuple[float, str]]:
    """Places on the axis, and the time of the day."""
    for share in (0, 1 / 3, 2 / 3, 1):
        shown = time.strftime("%H:%M", time.localtime(start + share * span))
        yield round(share * (POINTS - 1)), shown
