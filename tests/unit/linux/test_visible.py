"""Nothing that came from elsewhere moves the cursor of a terminal."""

from __future__ import annotations

import pytest

from fuseswap.linux import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Größe ✓", "Größe ✓"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\rb\tc\x7f", r"a\rb\tc\x7f"),
        ("\x9b2J", r"\x9b2J"),  # CSI in one character
        ("\udc9b2J\udcff", "\\x9b2J\udcff"),  # the same as a byte of a path; another byte
        ("\u202eabc\u2028", r"\u202eabc\u2028"),  # reversed; a line
        ("\u200b\U000e0041", r"\u200b\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    assert visible.one_line(text) == shown
    assert visible.lines(f"{text}\n") == f"{shown}\n"


def test_line_breaks_are_meant_or_not() -> None:
    assert visible.lines("a\nb\x00\n") == "a\nb\\x00\n"
    assert visible.one_line("a\nb") == r"a\nb"
