"""Man pages of commands: all of the parser is in them, and troff reads them."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest

from fuseswap.cli import manual

ROOT = Path(__file__).parents[3]
PAGES = {name: (ROOT / "docs/man" / name).read_text() for name in manual.pages("2026-01-01")}


def options(parser: argparse.ArgumentParser) -> set[str]:
    found: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                found |= options(one)
        elif action.help is not argparse.SUPPRESS and action.dest != "help":
            found |= set(action.option_strings) or {manual.word_of(action)}
    return found


def test_each_has_every_option_and_argument() -> None:
    for name, parser, _ in manual.commands():
        text = PAGES[f"fuseswap-{name}.8"].replace("\\-", "-")
        missing = {word for word in options(parser) if word not in text}
        assert not missing, name


def test_they_are_what_the_parser_says() -> None:
    """`scripts/check` looks at all files, and at their dates."""
    date = (ROOT / "docs/man/fuseswap.8").read_text().split()[3]
    assert manual.pages(date) == PAGES
    assert manual.synopsis() in (ROOT / "docs/man/fuseswap.8").read_text()


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
@pytest.mark.parametrize("name", PAGES)
def test_troff_has_no_complaint(name: str) -> None:
    words = ["groff", "-man", "-Tutf8", "-ww", "-z", str(ROOT / "docs/man" / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
