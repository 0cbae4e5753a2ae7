"""Kinds of pictures: bars with a line of text each, columns of a histogram, lines over time.

All have their numbers or names beside what they draw.  Two things in one picture differ by a
pattern or a dash, and not by their colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fuseswap.cli.drawing import WIDTH, Canvas

SOLID, HATCHED, DOTTED = "solid", "hatched", "dotted"  # of areas
LINE, DASHED = "line", "line dashed"
_ROW: Final = 41
_BAR: Final = 11
_LEFT: Final = 52  # of the axis
_RIGHT: Final = 8
_ROOM: Final = WIDTH - _LEFT - _RIGHT
_LETTER: Final = 7.6  # width of one, on average


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of text and a bar below it: from ``start`` on, so long, on the scale of the picture.

    ``frame``: how long it could be; None where nothing says so.
    """

    label: str
    value: str
    start: float
    length: float
    style: str = SOLID
    frame: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers of one kind; None: not known."""

    name: str
    values: Sequence[float | None]
    style: str


def bars(title: str, rows: Sequence[Bar]) -> str:
    """One below the other, on a common scale."""
    canvas = Canvas(_ROW * len(rows) + 2, title)
    most = max((max(row.start + row.length, row.frame or 0) for row in rows), default=0) or 1
    scale = (WIDTH - 2) / most
    for number, row in enumerate(rows):
        y = number * _ROW
        room = int((WIDTH - _LETTER * len(row.value)) / _LETTER) - 1
        canvas.text(0, y + 14, cut(row.label, room))
        canvas.text(WIDTH, y + 14, row.value, "number", at="end")
        if row.frame is not None:
            canvas.area(1, y + 19, row.frame * scale, _BAR, "frame")
        if row.length:
            length = max(row.length * scale, 1.5)
            canvas.area(1 + min(row.start * scale, WIDTH - 3), y + 19, length, _BAR, row.style)
    return canvas.markup()


def columns(
    title: str,
    series: Sequence[Series],
    ticks: Sequence[tuple[float, str]],
    unit: Callable[[float], str],
    tips: Sequence[str],
    *,
    height: int = 110,
    note: str = "",
) -> str:
    """Columns of equal width, the series on each other; ``ticks``: places in columns, and text."""
    top = 10 + 20 * (len(series) > 1 or bool(note))
    canvas = Canvas(top + height + 24, title)
    if note:
        canvas.text(_LEFT, 14, note, "dim")
    elif len(series) > 1:
        _legend(canvas, [(one.name, one.style) for one in series])
    count = len(tips)
    sums = [sum(one.values[at] or 0 for one in series) for at in range(count)]
    most = ceiling(max(sums, default=0) or 1, unit)
    _grid(canvas, top, height, most, unit)
    width = _ROOM / count
    for at in range(count):
        y = float(top + height)
        for one in series:
            if value := one.values[at]:
                tall = max(value / most * height, 1.0)
                y -= tall
                canvas.area(_LEFT + at * width + 0.5, y, width - 1, tall, one.style, tips[at])
    for where, text in ticks:
        x = _LEFT + where * width
        canvas.line([(x, top + height), (x, top + height + 4)], "axis")
        anchor = "end" if x > WIDTH - 24 else "middle"
        canvas.text(min(x, WIDTH), top + height + 18, text, "dim", at=anchor)
    return canvas.markup()


def lines(
    title: str,
    series: Sequence[Series],
    ticks: Sequence[tuple[float, str]],
    unit: Callable[[float], str],
    *,
    steps: int,
    height: int = 90,
) -> str:
    """Lines over ``steps`` places at equal distances.  One is broken where a number is missing."""
    top = 26
    canvas = Canvas(top + height + 24, title)
    _legend(canvas, [(one.name, one.style) for one in series])
    known = [value for one in series for value in one.values if value is not None]
    most = ceiling(max(known, default=0) or 1, unit)
    _grid(canvas, top, height, most, unit)
    width = _ROOM / max(steps - 1, 1)
    for one in series:
        run: list[tuple[float, float]] = []
        for at, value in enumerate([*one.values, None]):
            if value is not None:
                run.append((_LEFT + at * width, top + height - value / most * height))
                continue
            if len(run) == 1:  # alone, it would not be seen
                run.append((run[0][0] + 1.5, run[0][1]))
            canvas.line(run, one.style)
            run = []
    for where, text in ticks:
        x = _LEFT + where * width
        canvas.line([(x, top + height), (x, top + height + 4)], "axis")
        anchor = "end" if where == steps - 1 else "start" if not where else "middle"
        canvas.text(x, top + height + 18, text, "dim", at=anchor)
    return canvas.markup()


def cut(text: str, room: int) -> str:
    """At most so many characters."""
    return text if len(text) <= room else f"{text[: max(room - 1, 1)]}\N{HORIZONTAL ELLIPSIS}"


def ceiling(most: float, unit: Callable[[float], str]) -> float:
    """A round number from ``most`` on: of powers of two for sizes, else of ten."""
    base = 2 if unit(1024.0 * 1024) == "1M" else 10
    step = float(base) ** math.floor(math.log(most, base))
    return step * next(times for times in (1, 2, 2.5, 5, 10) if step * times >= most * 0.999)


def _grid(
    canvas: Canvas, top: float, height: float, most: float, unit: Callable[[float], str]
) -> None:
    for share in (0, 0.5, 1):
        y = top + height * (1 - share)
        canvas.line([(_LEFT, y), (WIDTH - _RIGHT, y)], "axis" if not share else "grid")
        canvas.text(_LEFT - 5, y + 4, unit(most * share), "dim", at="end")


def _legend(canvas: Canvas, entries: Sequence[tuple[str, str]]) -> None:
    x = float(_LEFT)
    for name, style in entries:
        if style in (LINE, DASHED):
            canvas.line([(x, 9), (x + 22, 9)], style)
        else:
            canvas.area(x + 9, 3, 12, 12, style)
        canvas.text(x + 27, 14, name)
        x += 27 + _LETTER * len(name) + 24
