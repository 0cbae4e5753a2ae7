"""Statistics out of the OpenMetrics text that a worker gives (``openmetrics.py``).

Commands read it, and have no memory for the table of all statistics: that imports every part of a
device.  So the text says by itself what is what.  The sample of a gauge has the name of its
family, that of a counter is `TOTAL` longer.
"""

from __future__ import annotations

import re

from fuseswap.counting import file_name

PREFIX = "fuseswap_"
TOTAL = "_total"
CONTENT_END = "# EOF\n"
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
_MEANINGS = {escape: character for character, escape in ESCAPES.items()}
_FAMILY = re.compile(r"^# TYPE (\w+) ", re.MULTILINE)
_SAMPLE = re.compile(rf"{PREFIX}(\w+)(?:\{{(.*)\}})? (-?[0-9]+)")
_LABEL = re.compile(r'\w+="((?:[^"\\]|\\.)*)"')


def parse_metrics(text: str) -> dict[str, int]:
    """Statistics by the names of their files, in the order of the text.

    All that the worker has, also where it is of another version.
    """
    families = _families(text)
    found = {}
    for line in text.splitlines():
        if match := _SAMPLE.fullmatch(line):
            name = match[1] if match[1] in families else match[1].removesuffix(TOTAL)
            values = tuple(map(_plain, _LABEL.findall(match[2] or "")))
            found[file_name(name, values)] = int(match[3])
    return found


def counters_in(text: str) -> set[str]:
    """Names of the statistics in ``text`` that only grow, without their labels."""
    families = _families(text)
    samples = (match[1] for line in text.splitlines() if (match := _SAMPLE.fullmatch(line)))
    return {
        name.removesuffix(TOTAL)
        for name in samples
        if name.endswith(TOTAL) and name not in families
    }


def _families(text: str) -> set[str]:
    return {name.removeprefix(PREFIX) for name in _FAMILY.findall(text)}


def _plain(escaped: str) -> str:
    return re.sub(r"\\.", lambda match: _MEANINGS.get(match[0], match[0]), escaped)
