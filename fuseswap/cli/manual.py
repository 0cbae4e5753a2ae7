"""Man pages of the commands, made of the parser by argparse-manpage: ``scripts/reference``.

Each command has a page of its own, as ``fuseswap-up.8``, which ``man fuseswap up`` shows: all of
its options, as `--help` has them.  ``fuseswap.8`` says what they mean in more words; the synopsis
there is made here, too.

Nothing of fuseswap imports this, and argparse-manpage is needed where the pages are made only.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fuseswap import __version__
from fuseswap.cli.commands import build_parser

SECTION: Final = "8"
TITLE: Final = "System Administration"
_OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
_VALUE = re.compile(r"(?<![\w\\-])[A-Z][A-Z_]+")
_MORE = """
.SH EXIT STATUS
0: success; 1: usage; 2: the system; 32: not mounted.
.BR fuseswap (8)
says more.
.SH SEE ALSO
.BR fuseswap (8)
"""


@contextmanager
def _wide() -> Iterator[None]:
    """Without line breaks, on whatever terminal."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


def pages(date: str) -> dict[str, str]:
    """The text of each page by its name; ``date``: of the release, as 2026-11-30."""
    with _wide():
        return dict(_pages(date))


def _pages(date: str) -> Iterator[tuple[str, str]]:
    from argparse_manpage.manpage import Manpage

    for name, parser, words in commands():
        page = Manpage(
            parser,
            _data={
                "project_name": "fuseswap",
                "version": __version__,
                "manual_section": SECTION,
                "manual_title": TITLE,
                "date": date,
                "description": words,
            },
        )
        page.prog = f"fuseswap-{name}"
        yield f"fuseswap-{name}.{SECTION}", _tidy(str(page))


def commands() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Name, parser and a line of words of each command."""
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            words = {one.dest: one.help or "" for one in action._choices_actions}
            for name, parser in action.choices.items():
                yield name, parser, words[name].replace("%%", "%")


def word_of(action: argparse.Action) -> str:
    """How an argument is called in a usage line, in capitals."""
    return str(action.metavar or action.dest.upper())


def synopsis() -> str:
    """Of all commands and of all actions below them, for ``fuseswap.8``."""
    leaves = [leaf for _, parser, _ in commands() for leaf in _leaves(parser)]
    with _wide():
        return "".join(f".HP 4\n{_usage(leaf)}\n" for leaf in leaves) + ".PP\n"


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for one in action.choices.values():
            yield from _leaves(one)


def _usage(parser: argparse.ArgumentParser) -> str:
    text = parser.format_usage().partition(": ")[2].strip().replace(" [-h]", "")
    head, rest = text[: len(parser.prog)], text[len(parser.prog) :]
    rest = _OPTION.sub(r"\\fB\g<0>\\fP", rest)
    rest = _VALUE.sub(r"\\fI\g<0>\\fP", rest)
    return (f"\\fB{head}\\fP{rest}").replace("-", "\\-")


def _tidy(text: str) -> str:
    """Without blank lines, and with the columns below each other."""
    text = text.replace(".SH COMMENTS\n", ".SH NOTES\n.nf\n")
    lines = [line.rstrip() for line in text.splitlines()]
    end = ".fi" if ".nf" in lines else ""
    return "\n".join(line for line in (*lines, end) if line) + _MORE
