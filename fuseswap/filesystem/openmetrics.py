"""All statistics as OpenMetrics text, for Prometheus and its like; and back again."""

from __future__ import annotations

import re

from fuseswap.counting import Kind, Statistic, file_name, samples_by_name
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.statistics import STATISTICS

CONTENT_END = "# EOF\n"
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (-?[0-9]+)")
_LABEL = re.compile(r'\w+="((?:[^"\\]|\\.)*)"')
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
_MEANINGS = {escape: character for character, escape in _ESCAPES.items()}


def family_name(statistic: Statistic) -> str:
    """Name of the metric family; OpenMetrics wants counters without ``_total`` here."""
    name = statistic.name
    return f"fuseswap_{name.removesuffix('_total') if statistic.kind is Kind.COUNTER else name}"


def metric_name(statistic: Statistic) -> str:
    """Name of the sample; a counter's ends in ``_total``."""
    suffix = "_total" if statistic.kind is Kind.COUNTER else ""
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
    return "".join(_ESCAPES.get(character, character) for character in value)


def _plain(escaped: str) -> str:
    return re.sub(r"\\.", lambda match: _MEANINGS.get(match[0], match[0]), escaped)


def parse_metrics(text: str) -> dict[str, int]:
    """Statistics of ``render_metrics`` by the names of their files, in the table's order.

    Left out is what the table does not have: the worker may be of another version.
    """
    found: dict[str, dict[tuple[str, ...], int]] = {}
    for line in text.splitlines():
        if match := _SAMPLE.fullmatch(line):
            values = tuple(map(_plain, _LABEL.findall(match[2] or "")))
            found.setdefault(match[1], {})[values] = int(match[3])
    return {
        file_name(statistic.name, values): number
        for statistic in STATISTICS
        for values, number in found.get(metric_name(statistic), {}).items()
        if len(values) == len(statistic.labels)
    }
