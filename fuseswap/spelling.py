"""What was meant by a word that is none: for the complaint about it.

there is no parameter 'compresor'; did you mean 'compressor'?
"""

from __future__ import annotations

from collections.abc import Iterable

_MOST_DIGITS = 20


def is_whole(text: str) -> bool:
    """Whether ``text`` is a number of 0 or more, in digits that all can read."""
    return text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS


def or_rather(word: str, known: Iterable[str]) -> str:
    """``; did you mean ...?``, or else ``; there are: ...``, after a complaint about ``word``."""
    names = list(known)
    close = closest(word, names)
    if close:
        return f"; did you mean '{close}'?"
    return f"; there are: {', '.join(names) or 'none'}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that looks most like ``word``, None where none does."""
    from difflib import get_close_matches  # for a complaint only

    by_lower = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), by_lower, 1, 0.7)
    return by_lower[found[0]] if found else None
