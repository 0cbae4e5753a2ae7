"""What is prose in a file: a page of Markdown, or the docstrings of a module.

``page`` and ``docstrings`` give a text with the lines of the file, so that a position in it
has the line number of the file.  Code, links and HTML are left out.  ``CODE`` stands for a
piece of code in a sentence, and ``END`` ends a block: a paragraph, a heading, an item, a cell.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

from markdown_it import MarkdownIt
from markdown_it.token import Token

CODE = "\u25ae"
END = "\u00b6"

MARKDOWN = MarkdownIt("commonmark").enable("table")


def words(inline: Token) -> str:
    """The prose of a block, line by line."""
    parts = []
    for child in inline.children or ():
        if child.type in ("softbreak", "hardbreak"):
            parts.append("\n")
        elif child.type == "code_inline":
            parts.append(CODE)
        elif child.type == "text":
            parts.append(child.content)
    return "".join(parts)


def blocks(markdown: str) -> Iterator[tuple[int, str]]:
    """Line number, from 0, and text of each block."""
    for token in MARKDOWN.parse(markdown):
        if token.type == "inline" and token.map:
            yield token.map[0], words(token)


def laid_out(found: Iterator[tuple[int, str]]) -> str:
    """The blocks as one text, each on its line."""
    lines: list[str] = []
    for number, text in found:
        for offset, line in enumerate(f"{text} {END} ".split("\n")):
            while len(lines) <= number + offset:
                lines.append("")
            lines[number + offset] += line
    return "\n".join(lines)


def page(markdown: str) -> str:
    """The prose of a page."""
    return laid_out(blocks(markdown))


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, documented) or not node.body:
            continue
        first = node.body[0]
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            for number, text in blocks(inspect.cleandoc(first.value.value)):
                yield first.lineno - 1 + number, text


def docstrings(source: str) -> str:
    """The prose of the docstrings of a module, which begin on the line of their quotes."""
    return laid_out(iter(sorted(_docstrings(source))))
