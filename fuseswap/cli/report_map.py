"""Pictures of a swapfile: its map by state, by age, and the sizes of its objects.

A cell of the map stands for as many pages as every other.  Its mark says by its shape how most of
them are kept, and by its size how many there are.  Of ages the marks are columns: higher is older.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from fuseswap.cli.charts import HATCHED, SOLID, Series, columns
from fuseswap.cli.drawing import WIDTH, Canvas, Picture
from fuseswap.cli.swap_survey import AGES, SIZE_STEP, Cell, State, Survey
from fuseswap.sizes import format_size
from fuseswap.units import PAGE_SIZE

STATES: Final = {
    State.COMPRESSED: ("compressed, in memory", "compressed"),
    State.RAW: ("as they are, in memory", "raw"),
    State.SAME_FILLED: ("same-filled", "same"),
    State.ON_TIER: ("on a tier", "tier"),
    State.ELSEWHERE: ("in place, or in another backend", "elsewhere"),
    State.NOT_FOUND: ("on the move, or damaged", "lost"),
}
AGE_NAMES: Final = (
    "less than a minute",
    "1 to 10 minutes",
    "10 to 60 minutes",
    "1 to 6 hours",
    "6 to 24 hours",
    "a day or more",
)
_ACROSS: Final = 32
_LEFT: Final = 48
_CELL: Final = (WIDTH - _LEFT) / _ACROSS
_INSET: Final = 0.8


def pictures(survey: Survey) -> Iterator[Picture]:
    """Of one swapfile in which something is stored."""
    yield _states(survey)
    if any(survey.ages):
        yield _ages(survey)
        yield _sizes(survey)


def extent(survey: Survey) -> str:
    """What the map shows, in words."""
    size, whole = survey.pages * PAGE_SIZE, survey.page_count * PAGE_SIZE
    said = f"A cell is {format_size(survey.cell_pages * PAGE_SIZE)}"
    if size < whole:
        said += f"; behind the {format_size(size)} shown, nothing of {format_size(whole)} is stored"
    if survey.is_sample:
        said += f"; {survey.looked} of {survey.pages} pages were looked at"
    return f"{said}."


def mark(state: State, x: float, y: float, side: float) -> str:
    """The outline of a mark whose upper left corner is at ``x`` and ``y``."""
    end_x, end_y, half = x + side, y + side, side / 2
    square = f"M{x:.1f} {y:.1f}h{side:.1f}v{side:.1f}h{-side:.1f}z"
    if state is State.SAME_FILLED:
        arc = f"a{half:.1f} {half:.1f} 0 1 0"
        return f"M{x:.1f} {y + half:.1f}{arc} {side:.1f} 0{arc} {-side:.1f} 0z"
    if state is State.RAW:
        return f"{square}M{x:.1f} {end_y:.1f}L{end_x:.1f} {y:.1f}"
    if state is State.ELSEWHERE:
        return f"M{x:.1f} {end_y:.1f}h{side:.1f}L{x + half:.1f} {y:.1f}z"
    if state is State.NOT_FOUND:
        return f"M{x:.1f} {y:.1f}L{end_x:.1f} {end_y:.1f}M{x:.1f} {end_y:.1f}L{end_x:.1f} {y:.1f}"
    return square


def _states(survey: Survey) -> Picture:
    def draw(canvas: Canvas, cell: Cell, x: float, y: float, tip: str) -> None:
        state = cell.main_state
        if state is not None:
            side = (_CELL - 2 * _INSET) * max(0.4, math.sqrt(cell.stored / cell.looked))
            at = (_CELL - side) / 2
            canvas.shape(mark(state, x + at, y + at, side), STATES[state][1], tip)

    found = [(state, pages) for state, pages in zip(State, survey.states, strict=True) if pages]
    return Picture(
        "Map of the swapfile",
        "The shape of a mark says how most pages of its cell are kept, its size how many are "
        f"stored there. {extent(survey)}",
        _grid(survey, "map of the swapfile by state", draw),
        ("state", _seen(survey), "share"),
        _shares([(STATES[state][0], pages) for state, pages in found], sum(survey.states)),
        [(STATES[state][1], STATES[state][0]) for state, _ in found],
    )


def _ages(survey: Survey) -> Picture:
    def draw(canvas: Canvas, cell: Cell, x: float, y: float, tip: str) -> None:
        age = cell.age
        if age is not None:
            tall = (_CELL - 2 * _INSET) * (age + 1) / AGES
            canvas.area(x + _INSET, y + _CELL - _INSET - tall, _CELL - 2 * _INSET, tall, SOLID, tip)

    oldest = max(age for age in range(AGES) if survey.ages[age])
    return Picture(
        "Age",
        "The higher the column of a cell, the longer ago half of its pages were stored or moved "
        f"last; a sixth is less than a minute, all of it a day or more. The oldest here: "
        f"{AGE_NAMES[oldest]}.",
        _grid(survey, "map of the swapfile by age", draw),
        ("stored or moved", _seen(survey), "share"),
        _shares(list(zip(AGE_NAMES, survey.ages, strict=True)), sum(survey.ages)),
    )


def _sizes(survey: Survey) -> Picture:
    series = [Series("in memory", survey.in_memory, SOLID)]
    if any(survey.on_tiers):
        series.append(Series("on tiers", survey.on_tiers, HATCHED))
    both = [sum(pair) for pair in zip(survey.in_memory, survey.on_tiers, strict=True)]
    names = [f"{at * SIZE_STEP + 1} to {(at + 1) * SIZE_STEP}" for at in range(len(both))]
    half = bisect_left(list(accumulate(both)), sum(both) / 2)
    ticks = [(size / SIZE_STEP, str(size)) for size in range(0, PAGE_SIZE + 1, 1024)]
    return Picture(
        "Sizes of objects",
        "How many pages have an object of which length in bytes: "
        f"half of them of {(half + 1) * SIZE_STEP} or less. A page that did not compress has 4096.",
        columns(
            "histogram of the sizes of objects",
            series,
            ticks,
            _count,
            [f"{name} bytes: {pages} pages" for name, pages in zip(names, both, strict=True)],
        ),
        ("bytes", "in memory", "on tiers"),
        [
            (name, str(memory), str(tiers))
            for name, memory, tiers in zip(names, survey.in_memory, survey.on_tiers, strict=True)
            if memory or tiers
        ],
    )


def _grid(
    survey: Survey, title: str, draw: Callable[[Canvas, Cell, float, float, str], None]
) -> str:
    rows = -(-len(survey.cells) // _ACROSS)
    canvas = Canvas(rows * _CELL + 4, title)
    for row in range(rows):
        if row % 4 == 0:
            where = format_size(row * _ACROSS * survey.cell_pages * PAGE_SIZE)
            canvas.text(_LEFT - 6, row * _CELL + 10, where, "dim", at="end")
    for number, cell in enumerate(survey.cells):
        x, y = _LEFT + number % _ACROSS * _CELL, number // _ACROSS * _CELL
        draw(canvas, cell, x, y, _tip(survey, number, cell) if cell.stored else "")
    last = len(survey.cells) % _ACROSS
    canvas.shape(_frame(rows, last), "outline")
    return canvas.markup()


def _frame(rows: int, last: int) -> str:
    """Around all cells; ``last``: how many the last row has, 0 for a whole one."""
    right, bottom = _LEFT + _ACROSS * _CELL - 0.5, rows * _CELL + 0.5
    if not last:
        return f"M{_LEFT - 0.5} 0.5H{right}V{bottom}H{_LEFT - 0.5}z"
    end, above = _LEFT + last * _CELL + 0.5, (rows - 1) * _CELL + 0.5
    if rows == 1:
        return f"M{_LEFT - 0.5} 0.5H{end}V{bottom}H{_LEFT - 0.5}z"
    return f"M{_LEFT - 0.5} 0.5H{right}V{above}H{end}V{bottom}H{_LEFT - 0.5}z"


def _tip(survey: Survey, number: int, cell: Cell) -> str:
    start = number * survey.cell_pages
    kept = [
        f"{pages} {STATES[state][0]}"
        for state, pages in zip(State, cell.states, strict=True)
        if pages
    ]
    age = f"; half older than {AGE_NAMES[cell.age]}" if cell.age else ""
    return f"from page {start}: {', '.join(kept)} of {cell.looked}{age}"


def _seen(survey: Survey) -> str:
    return "pages looked at" if survey.is_sample else "pages"


def _shares(counted: Sequence[tuple[str, int]], total: int) -> list[tuple[str, str, str]]:
    return [(name, str(pages), f"{100 * pages / total:.1f} %") for name, pages in counted if pages]


def _count(number: float) -> str:
    """So many, in few characters."""
    for suffix in ("", "K", "M"):
        if number < 9999.5:
            return f"{number:.0f}{suffix}"
        number /= 1000
    return f"{number:.0f}G"
