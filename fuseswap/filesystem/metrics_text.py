"""Statistics out of the OpenMetrics text that a worker gives (``openmetrics.py``).

Commands read it, and have no memory for the table of all statistics: that imports every part of a
device.  So the text says by itself what is what.  The sample of a gauge has the name of its
family, that of a counter is `TOTAL` longer.  Where a name is not that in ``stats/``, its end tells
what that is: `MISLEADING`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from fuseswap.counting import file_name

PREFIX = "fuseswap_"
TOTAL = "_total"
DEVICE = "device"  # the label that each sample has
CONTENT_END = "# EOF\n"
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
# Ends of names that ``promtool check metrics`` does not take, and what stands for them.
MISLEADING = {"_total": "_total_bytes", "_count": "_units", "_us": "_seconds"}
_MEANINGS = {escape: character for character, escape in ESCAPES.items()}
_FAMILY = re.compile(r"^# TYPE (\w+) (\w+)$", re.MULTILINE)
_SAMPLE = re.compile(rf"{PREFIX}(\w+)(?:\{{(.*)\}})? (-?[0-9]+(?:\.[0-9]+)?)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_LATENCY = re.compile(rf"{PREFIX}latency_seconds_bucket\{{(.*)\}} ([0-9]{{1,20}})")
_BOUND = "le"
_LAST_BOUND = "+Inf"


@dataclass(slots=True)
class Times:
    """How long requests of one kind took that were answered in one place.

    ``buckets``: how many took less than the bound in seconds, and not less than the one before.
    """

    request: str
    place: str
    buckets: dict[float, int] = field(default_factory=dict)
    longer: int = 0

    @property
    def count(self) -> int:
        """All of them."""
        return sum(self.buckets.values()) + self.longer


def parse_metrics(text: str) -> dict[str, int]:
    """Statistics by the names of their files, in the order of the text.

    All that the worker has, also where it is of another version.  No histograms.
    """
    found = {}
    for name, labels, shown, _ in _samples(text):
        values = tuple(_plain(value) for label, value in _LABEL.findall(labels) if label != DEVICE)
        found[file_name(name, values)] = _number(shown)
    return found


def counters_in(text: str) -> set[str]:
    """Names of the statistics in ``text`` that only grow, without their labels."""
    return {name for name, _, _, is_counter in _samples(text) if is_counter}


def times_in(text: str) -> list[Times]:
    """The histograms of requests."""
    found: dict[tuple[str, str], Times] = {}
    seen: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        if match := _LATENCY.fullmatch(line):
            labels = {name: _plain(value) for name, value in _LABEL.findall(match[1])}
            key = labels.get("request", ""), labels.get("place", "")
            one, bound = found.setdefault(key, Times(*key)), labels.get(_BOUND, "")
            count = int(match[2]) - seen.get(key, 0)
            seen[key] = int(match[2])
            if bound == _LAST_BOUND:
                one.longer = count
            else:
                one.buckets[float(bound)] = count
    return list(found.values())


def _samples(text: str) -> Iterator[tuple[str, str, str, bool]]:
    """Of each sample of a counter or gauge: statistic, labels, number, whether it is a counter."""
    kinds = {name.removeprefix(PREFIX): kind for name, kind in _FAMILY.findall(text)}
    for line in text.splitlines():
        if match := _SAMPLE.fullmatch(line):
            sample, labels, shown = match[1], match[2] or "", match[3]
            if kinds.get(sample.rpartition("_")[0]) == "histogram":
                continue
            is_counter = sample.endswith(TOTAL) and sample not in kinds
            name = _in_stats(sample.removesuffix(TOTAL) if is_counter else sample)
            yield name, labels, shown, is_counter


def _in_stats(sample: str) -> str:
    """The name in ``stats/``."""
    for end, instead in MISLEADING.items():
        if sample.endswith(instead):
            return sample.removesuffix(instead) + end
    return sample


def _number(shown: str) -> int:
    """As the statistic has it: what has a point is a time, in seconds."""
    return round(float(shown) * 1e6) if "." in shown else int(shown)


def _plain(escaped: str) -> str:
    return re.sub(r"\\.", lambda match: _MEANINGS.get(match[0], match[0]), escaped)
