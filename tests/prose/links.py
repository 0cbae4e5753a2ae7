"""Links between the files of the repository: each leads to a file, and to a heading in it.

Addresses of the web are not looked at.  ``docs/...`` named in code counts as a link too.  So does a
module by its name: in double backticks in code, as code in a page.  The name may be the end of a
path, or a pattern that some file matches.  A page may also name a path from the root.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePath

from markdown_it.token import Token

from tests.prose.text import MARKDOWN

_SOURCE = re.compile(r"""(?:src|srcset|href)=["']([^"'\s]+)""")
_PAGE = re.compile(r"\b(?:docs|mount)/[\w./-]+\.(?:md|svg)\b")
_MODULE_IN_CODE = re.compile(r"``([\w./*-]+\.py)``")
_MODULE = re.compile(r"[\w./*-]+\.py")
_PATH = re.compile(r"(?:fuseswap|tests|scripts|docs|mount)/[\w./@*-]*")
_WEB = re.compile(r"[a-z]+:", re.IGNORECASE)


def anchors(markdown: str) -> set[str]:
    """The anchors that a page's headings get from GitHub."""
    seen: Counter[str] = Counter()
    found = set()
    tokens = MARKDOWN.parse(markdown)
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inline.children or ())
            anchor = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
            seen[anchor] += 1
    return found


def _flat(tokens: list[Token]) -> Iterator[tuple[int, Token]]:
    for token in tokens:
        line = token.map[0] + 1 if token.map else 0
        yield line, token
        for child in token.children or ():
            yield line, child


def targets(markdown: str) -> Iterator[tuple[int, str]]:
    """Line of the block and target of each link and picture."""
    for line, token in _flat(MARKDOWN.parse(markdown)):
        for name in ("href", "src"):
            if token.attrs.get(name):
                yield line, str(token.attrs[name])
        if token.type in ("html_block", "html_inline"):
            for source in _SOURCE.findall(token.content):
                yield line, source


def broken(path: Path) -> Iterator[tuple[int, str]]:
    """Line and complaint for each link of a page that leads nowhere."""
    for line, target in targets(path.read_text()):
        if _WEB.match(target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name) if name else path
        if not file.exists():
            yield line, f"'{target}': there is no such file"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
            yield line, f"'{target}': {file.name} has no such heading"


def named_pages(root: Path, path: Path) -> Iterator[tuple[int, str]]:
    """The same for pages named in code, by their path from the root."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for name in _PAGE.findall(line):
            if not (root / name).exists():
                yield number, f"'{name}': there is no such file"


def modules(root: Path) -> list[PurePath]:
    """Every module of the repository, by its path from the root."""
    found = (root.glob(f"{folder}/**/*.py") for folder in ("fuseswap", "tests"))
    return [path.relative_to(root) for paths in found for path in paths]


def named_files(root: Path, path: Path, known: list[PurePath]) -> Iterator[tuple[int, str]]:
    """Line and complaint for each module, or path, that a page or code names and that is gone."""
    for number, name in _names_in_page(path) if path.suffix == ".md" else _names_in_code(path):
        if _PATH.fullmatch(name):
            found = any(root.glob(name))
        else:
            found = any(file.match(name) for file in known)
        if not found:
            yield number, f"'{name}': there is no such file"


def _names_in_code(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for name in _MODULE_IN_CODE.findall(line):
            yield number, name


def _names_in_page(path: Path) -> Iterator[tuple[int, str]]:
    for line, token in _flat(MARKDOWN.parse(path.read_text())):
        if token.type == "code_inline" and token.content:
            first = token.content.split()[0]
            if _MODULE.fullmatch(first) or _PATH.fullmatch(first):
                yield line, first
