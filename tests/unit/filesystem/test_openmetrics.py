"""The OpenMetrics text is well-formed, and read again it says the same."""

from __future__ import annotations

import re
import subprocess

import pytest

from fuseswap.counting import Kind, Statistic, file_name, samples_by_name
from fuseswap.filesystem import openmetrics
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.host_numbers import HostNumbers
from fuseswap.filesystem.metrics_text import counters_in, parse_metrics, times_in
from fuseswap.filesystem.openmetrics import CLASSIC, metric_name, render_metrics
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.tiered_devices import Tiered
from tests.support.tools import tool

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = rf'{NAME}="[^"\\\n]*"'
LABELS = rf"\{{{LABEL}(?:,{LABEL})*\}}"
FAMILY = re.compile(
    rf"# TYPE (?P<type_name>{NAME}) (?P<type>counter|gauge|histogram)\n"
    rf"# HELP (?P<help_name>{NAME}) (?P<help>[^\n]+)\n"
    rf"(?P<samples>(?:{NAME}{LABELS} -?[\d.]+\n)+)"
)


SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


def parse(text: str) -> dict[str, tuple[str, float]]:
    """Sample and labels -> (type, value); every line must belong to a family."""
    assert text.endswith("# EOF\n")
    body = text.removesuffix("# EOF\n")
    assert FAMILY.sub("", body) == ""
    found = {}
    for family in FAMILY.finditer(body):
        name = family["type_name"]
        assert family["help_name"] == name
        assert not (family["type"] == "counter" and name.endswith("_total"))
        assert not set(family["help"]) & {'"', "\\"}  # these would need escaping
        for line in family["samples"].splitlines():
            sample, _, value = line.rpartition(" ")
            suffixes = SUFFIXES[family["type"]]
            assert sample.partition("{")[0] in {name + suffix for suffix in suffixes}
            assert sample not in found
            found[sample] = (family["type"], float(value))
    return found


def sample_of(row: Statistic, values: tuple[str, ...]) -> str:
    pairs = [("device", ""), *zip(row.labels, values, strict=True)]
    labels = ",".join(f'{name}="{value}"' for name, value in pairs)
    return f"{metric_name(row)}{{{labels}}}"


def test_each_statistic_is_one_family(tiered: Tiered) -> None:
    device = tiered.device
    device.swapfile.write(0, memoryview(pages.CORPUS["compressible"] * 3))
    device.swapfile.read(0, PAGE_SIZE)
    rows = {row.name: row for row in STATISTICS}
    expected = {}
    for key, number in device.statistics().items():
        name, values = (key, ()) if isinstance(key, str) else key
        shown = number / 1e6 if name.endswith("_us") else number
        expected[sample_of(rows[name], values)] = (rows[name].kind.value, shown)
    text = render_metrics(device)
    assert parse(text) == expected
    assert text.count("# TYPE") == len(samples_by_name(device.statistics()))
    assert expected['fuseswap_backend_stores_total{device="",backend="cache"}'] == ("counter", 3)


def test_no_two_families_share_a_sample_name(tiered: Tiered) -> None:
    """A gauge that ends in ``_total`` must not look like some counter's sample."""
    samples = re.findall(r"^fuseswap\w+", render_metrics(tiered.device), re.MULTILINE)
    assert len(set(samples)) == len(samples_by_name(tiered.device.statistics()))


def test_without_a_tier_there_is_no_family_of_tiers(device: Device) -> None:
    assert "fuseswap_tier_extents" not in render_metrics(device)


def test_read_again_it_is_what_the_files_say(device: Device) -> None:
    device.swapfile.write(0, memoryview(pages.CORPUS["compressible"] * 3))
    expected = {}
    for key, number in device.statistics().items():
        expected[key if isinstance(key, str) else file_name(*key)] = number
    found = parse_metrics(render_metrics(device))
    assert found == expected
    assert [name for name in found if "." not in name] == [
        row.name for row in STATISTICS if not row.labels
    ]
    assert found["backend_stores.cache"] == 3


def test_what_only_grows_is_known_without_the_table(device: Device) -> None:
    device.swapfile.write(0, memoryview(pages.CORPUS["compressible"]))
    now = samples_by_name(device.statistics())
    expected = {row.name for row in STATISTICS if row.kind is Kind.COUNTER and row.name in now}
    assert counters_in(render_metrics(device)) == expected
    assert "mem_used_total" in now
    assert "mem_used_total" not in expected


def test_a_worker_of_another_version_is_understood() -> None:
    text = "# TYPE fuseswap_new_total gauge\nfuseswap_new_total 1\nfuseswap_loads_total 3\n# EOF\n"
    assert parse_metrics(text) == {"new_total": 1, "loads": 3}
    assert counters_in(text) == {"loads"}


@pytest.mark.parametrize("value", ['a "b"', "c\\d", "e\nf", "\\n", 'g",h="} 5', "/dev/sdb", "ü"])
def test_values_of_labels_come_back_whatever_is_in_them(
    device: Device, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    tier = "tier"
    rows = (Statistic("reads", Kind.COUNTER, "", "", "Reads.", (tier, "way")),)
    monkeypatch.setattr(openmetrics, "STATISTICS", rows)
    monkeypatch.setattr(Device, "statistics", lambda self: {("reads", (value, "in")): 7})
    text = render_metrics(device)
    assert text.count("\n") == 4
    assert parse_metrics(text) == {file_name("reads", (value, "in")): 7}


def test_each_sample_says_which_device(device: Device) -> None:
    device.host = HostNumbers(name="swap0/1")
    device.latency.add_load(5000)
    for line in render_metrics(device).splitlines():
        assert line.startswith("#") or '{device="swap0/1"' in line
    assert parse_metrics(render_metrics(device))["latency_max_us.load.memory"] == 5


def test_times_are_a_histogram(device: Device) -> None:
    for duration_ns in (3000, 5000, 5000, 10**11):
        device.latency.add_load(duration_ns)
    found = parse(render_metrics(device))
    labels = 'device="",request="load",place="memory"'
    name = "fuseswap_latency_seconds"
    bounds = {
        float(sample.split('le="')[1].rstrip('"}')): number
        for sample, (_, number) in found.items()
        if sample.startswith(f"{name}_bucket")
    }
    assert list(bounds) == sorted(bounds)
    assert (bounds[2.048e-6], bounds[4.096e-6], bounds[8.192e-6]) == (0, 1, 3)
    assert (max(bounds), bounds[max(bounds)]) == (float("inf"), 4)
    assert found[f"{name}_count{{{labels}}}"] == ("histogram", 4)
    assert found[f"{name}_sum{{{labels}}}"] == ("histogram", 100.000013)


def test_the_histograms_are_read_again(device: Device) -> None:
    device.host = HostNumbers(name="swap0")
    for duration_ns in (3000, 5000, 5000, 10**11):
        device.latency.add_load(duration_ns)
    device.latency.know_tier(3, 'a"b\\c')
    device.latency._tiers[3][1].add(70_000, 4)
    loads, tier = times_in(render_metrics(device))
    assert (loads.request, loads.place, loads.count, loads.longer) == ("load", "memory", 4, 1)
    assert {bound: count for bound, count in loads.buckets.items() if count} == {
        4.096e-6: 1,
        8.192e-6: 2,
    }
    assert (tier.request, tier.place, tier.count) == ("load", 'tier:a"b\\c', 4)
    assert tier.buckets[131.072e-6] == 4
    assert times_in(render_metrics(device, CLASSIC)) == [loads, tier]
    assert times_in("") == []


def test_the_names_of_an_older_worker_are_understood() -> None:
    text = (
        "# TYPE fuseswap_mem_used_total gauge\nfuseswap_mem_used_total 5\nfuseswap_bd_count 6\n"
        'fuseswap_tier_read_p50_us{tier="a"} 240\n# EOF\n'
    )
    expected = {"mem_used_total": 5, "bd_count": 6, "tier_read_p50_us.a": 240}
    assert parse_metrics(text) == expected


def test_promtool_finds_nothing(tiered: Tiered) -> None:
    device = tiered.device
    device.host = HostNumbers(name="swap0")
    device.latency.add_load(5000)
    device.latency.waited.add(10**12)
    done = subprocess.run(
        (tool("promtool"), "check", "metrics"),
        input=render_metrics(device, CLASSIC),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
