"""All statistics as OpenMetrics text, for Prometheus and its like.

``metrics_text.py`` reads it again.
"""

from __future__ import annotations

from fuseswap.counting import Kind, Statistic, samples_by_name
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.metrics_text import CONTENT_END, ESCAPES, PREFIX, TOTAL
from fuseswap.filesystem.statistics import STATISTICS


def family_name(statistic: Statistic) -> str:
    """Name of the metric family; OpenMetrics wants counters without ``_total`` here."""
    name = statistic.name
    return PREFIX + (name.removesuffix(TOTAL) if statistic.kind is Kind.COUNTER else name)


def metric_name(statistic: Statistic) -> str:
    """Name of the sample; a counter's ends in ``_total``."""
    suffix = TOTAL if statistic.kind is Kind.COUNTER else ""
    return family_name(statistic) + suffix


def render_metrics(device: Device) -> str:
    """One family a statistic; in it, one sample for all values of its labels that there are.

    None where there are none: a device without a tier has no numbers by tier.
    """
    now = samples_by_name(device.statistics())
    lines = []
    for statistic in STATISTICS:
        samples = now.get(statistic.name)
        if not samples:
            continue
        family = family_name(statistic)
        lines.append(f"# TYPE {family} {statistic.kind.value}\n")
        lines.append(f"# HELP {family} {statistic.help}\n")
        name = metric_name(statistic)
        for values, number in samples:
            lines.append(f"{name}{_braces(statistic, values)} {number}\n")
    return "".join(lines) + CONTENT_END


def _braces(statistic: Statistic, values: tuple[str, ...]) -> str:
    """The labels of a sample, where it has some."""
    if not values:
        return ""
    pairs = zip(statistic.labels, values, strict=True)
    return "{" + ",".join(f'{label}="{_escape(value)}"' for label, value in pairs) + "}"


def _escape(value: str) -> str:
    return "".join(ESCAPES.get(character, character) for character in value)
