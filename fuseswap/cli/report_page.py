"""The page of ``fuseswap report``: one file of HTML that loads nothing, in light and in dark.

What comes from a device, as names and reasons, is text and never markup.  A policy in the page
itself forbids the browser to fetch anything or to run a script.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from html import escape

from fuseswap import __version__
from fuseswap.cli import report_map, report_memory, report_times
from fuseswap.cli.drawing import Picture
from fuseswap.cli.recording import Moment
from fuseswap.cli.report_facts import Facts
from fuseswap.cli.report_style import PATTERNS, STYLE
from fuseswap.cli.swap_survey import State
from fuseswap.linux.visible import one_line
from fuseswap.sizes import format_size

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_EMPTY = "Nothing is stored yet, so there is no map."
_HOW_TO_RECORD = (
    "For the last hour, let `fuseswap top --record FILE` run, and give FILE with --record."
)
_TICK = "`"


def page(found: Sequence[Facts], moments: Sequence[Moment] | None, host: str) -> str:
    """All of it, in ASCII: it is the same in any locale.

    ``moments``: of a recording, None where none was given.
    """
    names = ", ".join(facts.name for facts in found)
    title = f"fuseswap report: {names}"
    body = "".join(_section(facts, moments) for facts in found)
    when = time.strftime("%Y-%m-%d %H:%M:%S %z")
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<title>{_text(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{PATTERNS}"
        f"<header>\n<h1>{_text(title)}</h1>\n"
        f"<p>Swap of {_text(host)} on {when}, by fuseswap {_text(__version__)}.</p>\n"
        f"</header>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )
    return text.encode("ascii", "xmlcharrefreplace").decode()


def _section(facts: Facts, moments: Sequence[Moment] | None) -> str:
    parts = [f"<section>\n<h2>{_text(facts.name)}</h2>\n", *_standing(facts)]
    groups = (
        (
            "Memory",
            list(report_memory.pictures(facts.stats, facts.status["tiers"])),
            _memory(facts),
        ),
        *_maps(facts),
        ("Times", list(report_times.histograms(facts.times, facts.stats)), _times(facts)),
        ("The last hour", *_hour(facts, moments)),
    )
    for heading, pictures, words in groups:
        parts.append(f"<h3>{_text(heading)}</h3>\n")
        if words:
            parts.append(f"<p>{_code(words)}</p>\n")
        if pictures:
            parts += ['<div class="pictures">\n', *map(_figure, pictures), "</div>\n"]
    parts.append("</section>\n")
    return "".join(parts)


def _standing(facts: Facts) -> Iterator[str]:
    """How it is, in a line or two."""
    status = facts.status
    shown = [str(status["status"])]
    if status["size_bytes"]:
        shown.append(format_size(status["size_bytes"]))
    if compressor := status["params"].get("compressor"):
        shown.append(str(compressor))
    priority = status["swap_priority"]
    shown.append("swap is off" if priority == "off" else f"swap, priority {priority}")
    yield f'<p class="standing">{_text(", ".join(shown))}</p>\n'
    told = [status["reason"], *status["warnings"]] if status["reason"] else status["warnings"]
    if told:
        yield '<ul class="told">' + "".join(f"<li>{_text(str(one))}</li>" for one in told)
        yield "</ul>\n"
    if status["reason"] and status["log"]:
        yield _details("Its log", f"<pre>{_text(chr(10).join(status['log']), lines=True)}</pre>")


def _memory(facts: Facts) -> str:
    return "" if facts.stats else "The worker gives no numbers now."


def _times(facts: Facts) -> str:
    if facts.times:
        return "Of all requests since the device came up. Times double from column to column."
    return "There was no request yet." if facts.stats else "The worker gives no times now."


def _maps(facts: Facts) -> Iterator[tuple[str, list[Picture], str]]:
    for part in facts.parts:
        heading = "The swapfile" if part.name == facts.name else f"The swapfile of {part.name}"
        if part.survey is None:
            yield heading, [], f"There is no map: {part.why_not}."
        elif not sum(part.survey.states):
            yield heading, [], _EMPTY
        else:
            yield heading, list(report_map.pictures(part.survey)), ""


def _hour(facts: Facts, moments: Sequence[Moment] | None) -> tuple[list[Picture], str]:
    if moments is None:
        return [], _HOW_TO_RECORD
    pictures = list(report_times.last_hour(moments, [part.name for part in facts.parts]))
    if not pictures:
        return [], f"The recording has nothing of {facts.name}."
    return pictures, report_times.when(moments)


def _figure(picture: Picture) -> str:
    key = "".join(
        f'<li><svg viewBox="-1 -1 14 14">{_mark(style)}</svg> {_text(name)}</li>'
        for style, name in picture.key
    )
    return (
        f"<figure>\n<h4>{_text(picture.heading)}</h4>\n"
        + (f'<ul class="key">{key}</ul>\n' if key else "")
        + f"{picture.markup}\n<figcaption>{_text(picture.explained)}</figcaption>\n"
        + _details("Numbers", _table(picture.headings, picture.rows))
        + "</figure>\n"
    )


def _mark(style: str) -> str:
    state = next(state for state in State if report_map.STATES[state][1] == style)
    return f'<path class="{style}" d="{report_map.mark(state, 1, 1, 10)}"/>'


def _details(summary: str, content: str) -> str:
    shown = f"<summary>{_text(summary)}</summary>"
    return f'<details>{shown}<div class="wide">{content}</div></details>\n'


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{_text(one)}</th>' for one in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"


def _code(text: str) -> str:
    """Text of ours, in which a command stands between backticks; what else there is stays text."""
    pieces = text.split(_TICK)
    if len(pieces) % 2 == 0:
        return _text(text)
    return "".join(
        f"<code>{_text(piece)}</code>" if at % 2 else _text(piece)
        for at, piece in enumerate(pieces)
    )


def _text(text: str, *, lines: bool = False) -> str:
    """Never markup, and nothing that is not seen."""
    rows = text.split("\n") if lines else [text]
    whole = "\n".join(map(one_line, rows))
    return escape(whole.encode(errors="backslashreplace").decode())
