"""Histograms of times: each in its bucket, percentiles near the truth, and kept for a successor."""

from __future__ import annotations

import math
import random

import pytest

from fuseswap.store.geometry import HEADER_RECORDS_BYTES
from fuseswap.store.latency_histogram import (
    BUCKETS,
    LATENCY_BYTES,
    LatencyHistogram,
    below_powers,
    bucket_of,
    end_of,
)
from tests.support.memory_devices import memory_device


@pytest.fixture
def area() -> memoryview:
    return memoryview(bytearray(LATENCY_BYTES))


def test_buckets_follow_each_other_without_a_gap() -> None:
    assert bucket_of(0) == 0
    for bucket in range(BUCKETS - 1):
        assert bucket_of(end_of(bucket) - 1) == bucket
        assert bucket_of(end_of(bucket)) == bucket + 1
    assert bucket_of(1 << 62) == BUCKETS - 1


@pytest.mark.parametrize("share", [0.5, 0.99, 0.999])
def test_a_percentile_is_at_most_an_eighth_too_large(area: memoryview, share: float) -> None:
    chance = random.Random(3)
    times = sorted(int(chance.lognormvariate(10, 1.5)) for _ in range(5000))
    histogram = LatencyHistogram(area, 0, 0, "load memory")
    for one in times:
        histogram.add(one)
    truth = times[math.ceil(share * len(times)) - 1]
    assert truth <= histogram.below(share)[0] <= truth * 1.125 + 128
    assert [histogram.longest_ns] == [times[-1]] == histogram.below(1)
    assert histogram.sum_ns == sum(times)
    assert sum(histogram.counts()) == len(times)


def test_counts_below_a_power_of_two_are_exact(area: memoryview) -> None:
    histogram = LatencyHistogram(area, 0, 3, "x")
    for duration_ns in (1023, 1024, 1025, 4095, 4096):
        histogram.add(duration_ns)
    found = below_powers(histogram.counts(), (10, 11, 12, 13))
    assert found == [1, 3, 4, 5]


def test_none_is_zero(area: memoryview) -> None:
    histogram = LatencyHistogram(area, 0, 0, "x")
    assert (histogram.below(0.5, 0.99), histogram.longest_ns, histogram.sum_ns) == ([0, 0], 0, 0)


def test_longer_than_any_bucket(area: memoryview) -> None:
    histogram = LatencyHistogram(area, 0, 0, "x")
    histogram.add(10**12)
    assert histogram.below(0.5) == [histogram.longest_ns] == [10**12]


def test_a_successor_goes_on_with_it(area: memoryview) -> None:
    LatencyHistogram(area, 0, 9, "load tier:disk").add(5000, 3)
    again = LatencyHistogram(area, 0, 9, "load tier:disk")
    again.add(70_000)
    assert sum(again.counts()) == 4
    assert again.longest_ns == 70_000


def test_what_is_counted_in_another_way_begins_anew(area: memoryview) -> None:
    """A tier of another name has the number now, or the buckets are those of another version."""
    neighbour = LatencyHistogram(area, 0, 10, "load tier:other")
    neighbour.add(5000)
    LatencyHistogram(area, 0, 9, "load tier:disk").add(5000)
    assert sum(LatencyHistogram(area, 0, 9, "load tier:new").counts()) == 0
    assert sum(neighbour.counts()) == 1


def test_it_lies_behind_the_records_of_the_header() -> None:
    with memory_device() as device:
        before = bytes(device.state.header.buffer[:HEADER_RECORDS_BYTES])
        last = device.state.latency(7 + 256, "the last tier")
        for duration_ns in (1, 10**6, 10**12):
            last.add(duration_ns)
        assert bytes(device.state.header.buffer[:HEADER_RECORDS_BYTES]) == before
        assert sum(device.state.latency(7 + 256, "the last tier").counts()) == 3


def test_a_tier_that_goes_takes_its_times_along() -> None:
    with memory_device() as device:
        for number, name in ((0, "a"), (1, "b")):
            device.latency.know_tier(number, name)
            device.latency._tiers[number][1].add(5000)
        device.latency.know_no_tier_but(set())
        device.latency.know_tier(0, "b")
        device.latency._tiers[0][1].add(7000)
        times = device.latency.histograms()
        found = [(place, one.longest_ns) for request, place, one in times if request == "load"]
        assert found == [("tier:b", 7000)]
