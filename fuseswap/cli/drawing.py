"""A picture as inline SVG, 400 units wide: text, areas and lines, each with a class of the page.

drawsvg makes the elements, and escapes what is text.  Attributes it takes as they are, so nothing
that came from elsewhere may be one.  Colours, lines and patterns are in the style of the page
(``report_page.py``), which knows light and dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import drawsvg

from fuseswap.linux.visible import one_line

WIDTH: Final = 400
TEXT: Final = 14  # height of letters
SMALL: Final = 12.5


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing with its heading, a line that explains it, and the same as a table of text.

    ``key``: classes of marks, in the style of the page, and their names.
    """

    heading: str
    explained: str
    markup: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    key: Sequence[tuple[str, str]] = field(default=())


class Canvas:
    """One picture of a height; ``title`` is read to who does not see it."""

    def __init__(self, height: float, title: str) -> None:
        self._drawing = drawsvg.Drawing(WIDTH, round(height, 1), role="img")
        self._drawing.append_title(_plain(title))

    def text(self, x: float, y: float, text: str, style: str = "", *, at: str = "start") -> None:
        """With its base line at ``y``; ``at``: which of its parts ``x`` is, as SVG calls it."""
        size = SMALL if style == "dim" else TEXT
        self._drawing.append(
            drawsvg.Text(_plain(text), size, _r(x), _r(y), class_=style or "text", text_anchor=at)
        )

    def area(
        self, x: float, y: float, width: float, height: float, style: str, tip: str = ""
    ) -> None:
        """A rectangle; ``tip`` is shown to a pointer that rests there."""
        one = drawsvg.Rectangle(_r(x), _r(y), _r(width), _r(height), class_=style)
        if tip:
            one.append_title(_plain(tip))
        self._drawing.append(one)

    def line(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """From each point to the next."""
        flat = [_r(number) for point in points for number in point]
        if len(flat) >= 4:
            self._drawing.append(drawsvg.Lines(*flat, class_=style))

    def shape(self, path: str, style: str, tip: str = "") -> None:
        """An outline in the words of SVG, which are ours."""
        one = drawsvg.Path(path, class_=style)
        if tip:
            one.append_title(_plain(tip))
        self._drawing.append(one)

    def markup(self) -> str:
        """The element."""
        return str(self._drawing.as_svg(header=""))


def _plain(text: str) -> str:
    """Nothing that moves a cursor, and no half of a character."""
    return one_line(text).encode(errors="backslashreplace").decode()


def _r(number: float) -> float:
    return round(number, 1)
