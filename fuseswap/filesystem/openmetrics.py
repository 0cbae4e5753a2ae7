"""All statistics as text for Prometheus and its like, in two forms.

    metrics        OpenMetrics: a counter's family has its name without ``_total``
    metrics.prom   the classic format, also for the textfile collector of node_exporter

Each sample has the device as a label.  Names are those of ``stats/``, but where ``promtool check
metrics`` finds them misleading.  Microseconds are seconds.  ``metrics_text.py`` reads it again.

Times of requests are a histogram too, with a bucket for each power of two in nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fuseswap.counting import Kind, Statistic, samples_by_name
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.metrics_text import (
    CONTENT_END,
    DEVICE,
    ESCAPES,
    MISLEADING,
    PREFIX,
    TOTAL,
)
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.store.latency_histogram import below_powers

_LATENCY = f"{PREFIX}latency_seconds"
_LATENCY_HELP = "How long requests took, by where they were answered."
_POWERS = range(11, 36)  # 2 us to 34 s
_BOUNDS = [repr((1 << power) / 1e9) for power in _POWERS]


@dataclass(frozen=True, slots=True)
class Form:
    """How families are named and where the text ends."""

    counters_have_suffix: bool  # in the lines of their family
    end: str


OPENMETRICS = Form(counters_have_suffix=False, end=CONTENT_END)
CLASSIC = Form(counters_have_suffix=True, end="")


def metric_name(statistic: Statistic) -> str:
    """Name of the sample; a counter's ends in ``_total``, a gauge's does not."""
    name = PREFIX + statistic.name
    for end, instead in MISLEADING.items():
        if name.endswith(end):
            name = name.removesuffix(end) + instead
            break
    return name + TOTAL if statistic.kind is Kind.COUNTER else name


def render_metrics(device: Device, form: Form = OPENMETRICS) -> str:
    """One family a statistic; in it, one sample for all values of its labels that there are.

    None where there are none: a device without a tier has no numbers by tier.
    """
    own = ((DEVICE, device.host.name),)
    now = samples_by_name(device.statistics())
    lines: list[str] = []
    for statistic in STATISTICS:
        samples = now.get(statistic.name)
        if not samples:
            continue
        name = metric_name(statistic)
        lines += _heading(name, statistic.kind.value, statistic.help, form)
        is_time = statistic.name.endswith("_us")
        for values, number in samples:
            labels = (*own, *zip(statistic.labels, values, strict=True))
            shown = f"{number / 1e6:.6f}" if is_time else number
            lines.append(f"{name}{_braces(labels)} {shown}\n")
    lines += _times(device, own, form)
    return "".join(lines) + form.end


def _times(device: Device, own: tuple[tuple[str, str], ...], form: Form) -> Iterator[str]:
    """The histograms of requests, one family."""
    histograms = list(device.latency.histograms())
    if histograms:
        yield from _heading(_LATENCY, "histogram", _LATENCY_HELP, form)
    for request, place, one in histograms:
        labels = _braces((*own, ("request", request), ("place", place)))[:-1]
        counts = one.counts()
        for bound, count in zip(_BOUNDS, below_powers(counts, _POWERS), strict=True):
            yield f'{_LATENCY}_bucket{labels},le="{bound}"}} {count}\n'
        total = sum(counts)
        yield f'{_LATENCY}_bucket{labels},le="+Inf"}} {total}\n'
        yield f"{_LATENCY}_sum{labels}}} {one.sum_ns / 1e9:.9f}\n"
        yield f"{_LATENCY}_count{labels}}} {total}\n"


def _heading(sample: str, kind: str, help_: str, form: Form) -> tuple[str, str]:
    name = sample
    if kind == Kind.COUNTER.value and not form.counters_have_suffix:
        name = sample.removesuffix(TOTAL)
    return f"# TYPE {name} {kind}\n", f"# HELP {name} {help_}\n"


def _braces(labels: tuple[tuple[str, str], ...]) -> str:
    return "{" + ",".join(f'{label}="{_escape(value)}"' for label, value in labels) + "}"


def _escape(value: str) -> str:
    return "".join(ESCAPES.get(character, character) for character in value)
