"""Histograms on one axis, and the last hour: thinned, with gaps, of some devices."""

from __future__ import annotations

import time

import pytest

from fuseswap.cli.recording import HOUR_S, Moment
from fuseswap.cli.report_times import POINTS, _filled, _thinned, histograms, last_hour, when
from fuseswap.filesystem.metrics_text import Times

BOUNDS = [2.0**power / 1e9 for power in range(11, 36)]


def times(request: str, place: str, longer: int = 0, **counts: int) -> Times:
    """``counts`` by the exponent of the bound, as ``p14``."""
    found = Times(request, place, dict.fromkeys(BOUNDS, 0), longer)
    for power, count in counts.items():
        found.buckets[2.0 ** int(power[1:]) / 1e9] = count
    return found


def moment(at: float, **numbers: float) -> Moment:
    return Moment(at, {"pressure_percent": 0.0}, {"swap0": numbers})


def headings(moments: list[Moment], *names: str) -> list[str]:
    return [one.heading for one in last_hour(moments, names or ("swap0",))]


def test_shares_are_of_all_requests() -> None:
    (picture,) = histograms([times("load", "memory", p14=30, p15=10)], {})
    assert [list(row) for row in picture.rows] == [
        ["less than 17us", "30"],
        ["less than 33us", "10"],
    ]
    assert "40 of them" in picture.explained
    assert "75 %" not in picture.markup
    assert "100 %" in picture.markup


def test_percentiles_are_those_of_status() -> None:
    stats = {"latency_p50_us.load.memory": 16, "latency_max_us.load.memory": 20000}
    (picture,) = histograms([times("load", "memory", p14=1)], stats)
    assert "p50 16us, longest 20ms" in picture.markup


def test_all_have_the_same_axis() -> None:
    found = histograms([times("load", "memory", p11=1), times("store", "waited", p35=1)], {})
    ticks = [
        [text for text in ("10 us", "100 us", "1 ms", "10 ms", "1 s", "10 s") if text in one.markup]
        for one in found
    ]
    assert ticks[0] == ticks[1]
    assert len(ticks[0]) >= 3


@pytest.mark.parametrize("power", ["p11", "p20", "p35"])
def test_one_column_is_not_all_of_the_picture(power: str) -> None:
    (picture,) = histograms([times("load", "memory", **{power: 7})], {})
    assert picture.markup.count("<rect") == 1
    width = float(picture.markup.partition('width="')[2].partition("width=")[2].split('"')[1])
    assert width < 50


def test_places_have_names() -> None:
    found = [
        times("load", "tier:fast", p14=1),
        times("turn", "others", p14=1),
        times("scrub", "moon", p14=1),
    ]
    assert [one.heading for one in histograms(found, {})] == [
        "Loads from tier fast",
        "Turns of others",
        "scrub moon",
    ]


def test_none_is_drawn_where_there_was_no_request() -> None:
    assert list(histograms([], {})) == []
    assert list(histograms([times("load", "memory")], {})) == []
    assert list(histograms([times("load", "memory", longer=4)], {})) == []


def test_only_what_happened_is_drawn() -> None:
    quiet = [moment(1e9 + at, memory_bytes=0.0, stores_per_s=0.0) for at in range(10)]
    assert headings(quiet) == ["Memory over the hour"]
    busy = [moment(1e9 + at, stores_per_s=5.0, waits_per_s=1.0) for at in range(10)]
    assert headings(busy) == [
        "Memory over the hour",
        "Pages a second",
        "Stores that waited or were refused",
    ]
    assert headings(busy, "other") == []
    assert headings([]) == []


def test_stripes_are_summed_up() -> None:
    both = Moment(1e9, {}, {"s/0": {"loads_per_s": 3.0}, "s/1": {"tier_loads_per_s": 4.0}})
    pictures = {one.heading: one for one in last_hour([both], ["s/0", "s/1"])}
    assert list(pictures["Pages a second"].rows) == [("out", "-", "-", "-"), ("in", "7", "7", "7")]


def test_the_greatest_of_each_part_is_shown() -> None:
    moments = [moment(float(at)) for at in range(HOUR_S)]
    values = [float(at % 100 == 7) * 40 for at in range(HOUR_S)]
    points = _thinned(moments, values, 0.0, float(HOUR_S))
    assert len(points) == POINTS
    assert points.count(40.0) == HOUR_S // 100
    assert None not in points


def test_what_was_not_sampled_is_a_gap() -> None:
    moments = [moment(float(at)) for at in range(HOUR_S) if not 1000 <= at < 2000]
    points = _thinned(moments, [1.0] * len(moments), 0.0, float(HOUR_S))
    gap = [at for at, value in enumerate(points) if value is None]
    assert gap == list(range(67, 133))


def test_samples_far_apart_are_one_line() -> None:
    """Every minute: one in four points."""
    moments = [moment(60.0 * at) for at in range(60)]
    points = _thinned(moments, [float(at) for at in range(60)], 0.0, float(HOUR_S))
    assert points[0:9] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]


def test_between_two_points_is_a_straight_line() -> None:
    assert _filled([1.0, None, 3.0, None, None, None, 9.0], 2) == [
        1.0, 2.0, 3.0, None, None, None, 9.0,
    ]  # fmt: skip


def test_it_says_of_when_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert when([moment(1e9), moment(1e9 + 1800)]) == (
        "From 2001-09-09 01:46 to 02:16. Each point is the greatest within 8 s."
    )
