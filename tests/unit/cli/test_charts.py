"""What is drawn is where it belongs, on a scale with round ends."""

from __future__ import annotations

import re

import pytest

from fuseswap.cli.charts import (
    DASHED,
    HATCHED,
    LINE,
    Bar,
    Series,
    bars,
    ceiling,
    columns,
    cut,
    lines,
)
from fuseswap.cli.drawing import WIDTH
from fuseswap.cli.rates import format_rate
from fuseswap.sizes import format_size


def areas(markup: str, style: str) -> list[tuple[float, ...]]:
    """Left, top, width and height of each."""
    found = re.findall(
        rf'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" class="{style}"',
        markup,
    )
    return [tuple(map(float, one)) for one in found]


def size(number: float) -> str:
    return format_size(round(number))


@pytest.mark.parametrize(
    ("most", "end"), [(1, 1), (3, 4), (5 << 20, 8 << 20), (900, 1024), (3 << 30, 4 << 30)]
)
def test_sizes_end_at_a_round_one(most: float, end: float) -> None:
    assert ceiling(most, size) == end


@pytest.mark.parametrize(("most", "end"), [(1, 1), (3, 5), (56, 100), (0.2, 0.2), (1100, 2000)])
def test_numbers_end_at_a_round_one(most: float, end: float) -> None:
    assert ceiling(most, format_rate) == pytest.approx(end)


def test_bars_are_on_one_scale() -> None:
    markup = bars("title", [Bar("a", "4", 0, 4), Bar("b", "1", 3, 1, HATCHED), Bar("c", "0", 0, 0)])
    ((left, _, width, _),) = areas(markup, "solid")
    assert (left, width) == (1, WIDTH - 2)
    ((left, _, width, _),) = areas(markup, "hatched")
    assert left == pytest.approx(1 + 3 * (WIDTH - 2) / 4, abs=0.1)
    assert width == pytest.approx((WIDTH - 2) / 4, abs=0.1)


def test_a_small_bar_is_seen_and_none_leaves_the_picture() -> None:
    markup = bars("title", [Bar("a", "1T", 0, 1 << 40), Bar("b", "1B", 1 << 40, 1, HATCHED)])
    ((left, _, width, _),) = areas(markup, "hatched")
    assert width >= 1.5
    assert left + width <= WIDTH


def test_bars_of_nothing_are_drawn() -> None:
    assert "<svg" in bars("title", [])
    assert areas(bars("title", [Bar("a", "0", 0, 0)]), "solid") == []


def test_columns_stand_on_each_other() -> None:
    series = [Series("one", [2, 0], "solid"), Series("two", [2, 1], HATCHED)]
    markup = columns("title", series, [(0, "0")], format_rate, ["first", "second"], height=100)
    # The first of each is in the legend.
    (_, _, _, one), *_ = areas(markup, "solid")[1:]
    (_, top, _, two), (_, other, _, half) = areas(markup, "hatched")[1:]
    assert one == two == pytest.approx(100 * 2 / 5, abs=0.1), "the axis ends at 5"
    assert half == pytest.approx(two / 2, abs=0.1)
    assert other > top
    assert "<title>first</title>" in markup


def test_a_line_is_broken_where_nothing_is_known() -> None:
    values = [1.0, 2.0, None, 3.0, 4.0, None, 5.0]
    series = [Series("a", values, LINE), Series("b", [None] * 7, DASHED)]
    markup = lines("title", series, [(0, "0"), (6, "6")], format_rate, steps=7)
    drawn = re.findall(r'<path d="([^"]+)" class="line"', markup)
    assert len(drawn) == 4, "one in the legend, three pieces"
    assert len(re.findall(r'class="line dashed"', markup)) == 1, "the legend"


def test_the_last_label_ends_within_the_picture() -> None:
    markup = lines("t", [Series("a", [1.0], LINE)], [(0, "x"), (9, "y")], format_rate, steps=10)
    (where,) = re.findall(r'<text x="([\d.]+)"[^>]*text-anchor="end"[^>]*>\s*y', markup)
    assert float(where) <= WIDTH


def test_a_long_name_is_cut() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab\N{HORIZONTAL ELLIPSIS}"
    markup = bars("title", [Bar("x" * 300, "12 of 13", 0, 1)])
    assert "x" * 60 not in markup
