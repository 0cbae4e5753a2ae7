"""All statistics as OpenMetrics text, for Prometheus and its like."""

from __future__ import annotations

from fuseswap.device import Device
from fuseswap.statistics import STATISTICS, Kind, Statistic

CONTENT_END = "# EOF\n"


def family_name(statistic: Statistic) -> str:
    """Name of the metric family; OpenMetrics wants counters without ``_total`` here."""
    name = statistic.name
    return f"fuseswap_{name.removesuffix('_total') if statistic.kind is Kind.COUNTER else name}"


def metric_name(statistic: Statistic) -> str:
    """Name of the sample; a counter's ends in ``_total``."""
    suffix = "_total" if statistic.kind is Kind.COUNTER else ""
    return family_name(statistic) + suffix


def render_metrics(device: Device) -> str:
    """One family a statistic."""
    now = device.statistics()
    lines = []
    for statistic in STATISTICS:
        family = family_name(statistic)
        lines.append(f"# TYPE {family} {statistic.kind.value}\n")
        lines.append(f"# HELP {family} {statistic.help}\n")
        lines.append(f"{metric_name(statistic)} {statistic.read(now)}\n")
    return "".join(lines) + CONTENT_END
