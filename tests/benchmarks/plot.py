"""A drawing of the suite `memory`: memory and read latency of each peer, as SVG.

Two rows of bars over one line of names.  Colours follow the reader's light or dark mode;
nothing but the SVG itself is needed to look at it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import floor, log10

from tests.benchmarks.results import SuiteResult, medians

_WIDTH, _LEFT, _RIGHT = 760, 70, 20
_TOP, _PANEL, _GAP, _BOTTOM = 50, 190, 70, 60
_TICKS = 4
_BAR = 0.7  # of the room of a peer

_STYLE = """\
svg { background: #ffffff; font: 13px sans-serif; }
text { fill: #1f2328; } .title { font-size: 15px; font-weight: bold; } .axis { stroke: #57606a; }
.grid { stroke: #d0d7de; } .a { fill: #0969da; } .b { fill: #9a6700; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; } text { fill: #e6edf3; } .axis { stroke: #8b949e; }
  .grid { stroke: #30363d; } .a { fill: #58a6ff; } .b { fill: #d29922; }
}"""

Series = Sequence[tuple[str, Sequence[float | None]]]  # label, one number a peer


def draw(result: SuiteResult, job: str = "unique") -> str:
    """The SVG text of ``job``; without latencies where none were measured."""
    values = {
        peer: found for (one, peer), found in medians(result.measurements).items() if one == job
    }
    peers = list(values)
    memory = [("bytes a page", _column(values, "bytes_per_page"))]
    latency = [
        ("median", _column(values, "read_p50_us")),
        ("99th percentile", _column(values, "read_p99_us")),
    ]
    panels = [("memory: bytes for a stored page", memory)]
    if any(number is not None for _, numbers in latency for number in numbers):
        panels.append(("reading one page: microseconds (logarithmic)", latency))
    height = _TOP + len(panels) * (_PANEL + _GAP) - _GAP + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>memory and latency of {escape(', '.join(peers))}</title>",
        f"<style>{_STYLE}</style>",
    ]
    for number, (title, series) in enumerate(panels):
        top = _TOP + number * (_PANEL + _GAP)
        parts += _panel(top, title, peers, series, logarithmic=number == 1)
    return "\n".join([*parts, "</svg>", ""])


def _column(values: Mapping[str, Mapping[str, float]], metric: str) -> list[float | None]:
    return [found.get(metric) for found in values.values()]


def _panel(
    top: float, title: str, peers: Sequence[str], series: Series, *, logarithmic: bool
) -> list[str]:
    numbers = [number for _, column in series for number in column if number is not None]
    ticks = decades(min(numbers), max(numbers)) if logarithmic else steps(max(numbers))

    def place(value: float) -> float:
        if not logarithmic:
            return top + _PANEL * (1 - value / ticks[-1])
        return top + _PANEL * (1 - log10(value / ticks[0]) / log10(ticks[-1] / ticks[0]))

    bottom, end = top + _PANEL, _WIDTH - _RIGHT
    parts = [_text(_LEFT, top - 14, title, "start", "title")]
    for tick in ticks:
        y = place(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{tick:g}", "end"))
    room = (end - _LEFT) / len(peers)
    width = room * _BAR / len(series)
    for at, peer in enumerate(peers):
        middle = _LEFT + room * (at + 0.5)
        parts.append(_text(middle, bottom + 18, peer))
        for which, (label, column) in enumerate(series):
            value = column[at]
            if value is not None:
                x, y = middle + width * (which - len(series) / 2), place(value)
                parts.append(
                    f'<rect class="{"ab"[which]}" x="{x:.1f}" y="{y:.1f}" width="{width - 2:.1f}" '
                    f'height="{bottom - y:.1f}"><title>{escape(peer)}, {label}</title></rect>'
                )
                parts.append(_text(x + width / 2, y - 4, f"{value:.{0 if value >= 100 else 1}f}"))
    if len(series) > 1:
        for which, (label, _) in enumerate(series):
            x = end - 110 * (len(series) - which)
            parts.append(
                f'<rect class="{"ab"[which]}" x="{x}" y="{top - 24}" width="10" height="10"/>'
            )
            parts.append(_text(x + 14, top - 14, label, "start"))
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{end}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_LEFT}" y1="{top}" y2="{bottom}"/>')
    return parts


def _text(x: float, y: float, text: str, anchor: str = "middle", kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{name}>{escape(text)}</text>'


def steps(highest: float) -> list[float]:
    """Round numbers from 0 to at least ``highest``, which is above 0."""
    rough = highest / _TICKS
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    count = -(-highest // step)
    return [step * number for number in range(int(count) + 1)]


def decades(lowest: float, highest: float) -> list[float]:
    """Powers of ten with both in between; both are above 0."""
    first = floor(log10(lowest))
    last = first + 1
    while 10.0**last < highest:
        last += 1
    return [10.0**power for power in range(first, last + 1)]
