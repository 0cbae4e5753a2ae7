"""The OpenMetrics text is well-formed."""

from __future__ import annotations

import re

from fuseswap.device import Device
from fuseswap.metrics import render_metrics
from fuseswap.statistics import STATISTICS, Kind
from fuseswap.units import PAGE_SIZE
from tests import pages

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
FAMILY = re.compile(
    rf"# TYPE (?P<type_name>{NAME}) (?P<type>counter|gauge)\n"
    rf"# HELP (?P<help_name>{NAME}) (?P<help>[^\n]+)\n"
    rf"(?P<sample>{NAME}) (?P<value>-?\d+)\n"
)


def parse(text: str) -> dict[str, tuple[str, int]]:
    """Sample name -> (type, value); every line must belong to a family."""
    assert text.endswith("# EOF\n")
    body = text.removesuffix("# EOF\n")
    assert FAMILY.sub("", body) == ""
    found = {}
    for family in FAMILY.finditer(body):
        name = family["type_name"]
        assert family["help_name"] == name
        assert family["sample"] == name + ("_total" if family["type"] == "counter" else "")
        assert not (family["type"] == "counter" and name.endswith("_total"))
        assert not set(family["help"]) & {'"', "\\"}  # these would need escaping
        assert name not in found
        found[family["sample"]] = (family["type"], int(family["value"]))
    return found


def test_each_statistic_is_one_family(device: Device) -> None:
    device.swapfile.write(0, memoryview(pages.CORPUS["compressible"] * 3))
    device.swapfile.read(0, PAGE_SIZE)
    now = device.statistics()
    assert parse(render_metrics(device)) == {
        f"fuseswap_{s.name}{'_total' if s.kind is Kind.COUNTER else ''}": (
            s.kind.value,
            s.read(now),
        )
        for s in STATISTICS
    }


def test_no_two_families_share_a_sample_name(device: Device) -> None:
    """A gauge that ends in ``_total`` must not look like some counter's sample."""
    samples = re.findall(r"^fuseswap\S+", render_metrics(device), re.MULTILINE)
    assert len(set(samples)) == len(samples) == len(STATISTICS)
