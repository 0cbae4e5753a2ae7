"""Text that came from elsewhere, made fit to be shown: nothing in it moves a cursor.

A path, a name of a plugin, the reply of a server or a line of a log may hold control characters.
A terminal obeys them: it would hide lines, or show others.  Each is shown escaped, as ``\\x1b``,
and so is all else that is not seen.  Bytes of a path that are no UTF-8 stay as they are, but for
those that a terminal of eight bits obeys.
"""

from __future__ import annotations


def one_line(text: str) -> str:
    """``text`` without a line break, and without anything else that is not seen."""
    return text if text.isprintable() else "".join(map(_shown, text))


def lines(text: str) -> str:
    """As `one_line`, of text whose line breaks are meant."""
    return text if text.isprintable() else "\n".join(map(one_line, text.split("\n")))


def _shown(character: str) -> str:
    if character.isprintable() or "\udca0" <= character <= "\udcff":
        return character
    if "\udc80" <= character < "\udca0":  # a byte that was no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
