"""python -m tests.prose: the words of pages and docstrings, the links, the lengths of pages.

    python -m tests.prose             complain; 1 where a rule is broken
    python -m tests.prose FILE...     of these files alone, exceptions or not
    python -m tests.prose --renew     write exceptions.txt anew

``exceptions.txt`` names the files whose words are older than the rules.  A file that keeps them
all has to leave that list, so it only gets shorter.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.prose import links, rules, text

ROOT = Path(__file__).resolve().parents[2]
EXCEPTIONS = Path(__file__).with_name("exceptions.txt")

# At most so many words of prose, a piece of code being one and a block of it none: a page that
# needs more is cut or split.
LENGTHS = {
    "README.md": 780,
    "docs/architecture.md": 2500,
    "docs/backends.md": 900,
    "docs/benchmarks.md": 1900,
    "docs/coming-from.md": 1100,
    "docs/concurrency.md": 2750,
    "docs/decisions.md": 1830,
    "docs/development.md": 1270,
    "docs/parameters.md": 820,
    "docs/policies.md": 2060,
    "docs/recovery.md": 1510,
    "docs/security.md": 1400,
    "docs/statistics.md": 2650,
}


def pages(root: Path) -> list[Path]:
    """Every page of Markdown that people read."""
    return sorted({*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("mount/*.md")})


def modules(root: Path) -> list[Path]:
    """Every module of the package."""
    return sorted(root.glob("fuseswap/**/*.py"))


def commands(root: Path) -> list[Path]:
    """Scripts, and files for the system: their words are not looked at, the pages they name are."""
    return sorted(
        path for path in (*root.glob("scripts/*"), *root.glob("mount/*")) if path.is_file()
    )


def of_words(path: Path) -> Iterator[tuple[int, str]]:
    """Line and complaint for each breach of the rules in a file."""
    prose = text.docstrings if path.suffix == ".py" else text.page
    for found in rules.findings(prose(path.read_text())):
        yield found.line, f"{found.rule}: {' '.join(found.message.split())}"


def of_length(root: Path, path: Path) -> Iterator[tuple[int, str]]:
    """A page that has grown too long."""
    count = len(text.page(path.read_text()).replace(text.END, " ").split())
    limit = LENGTHS.get(str(path.relative_to(root)))
    if limit is not None and count > limit:
        yield 1, f"{count} words, at most {limit}"


def complaints(root: Path, excepted: set[str]) -> Iterator[str]:
    """Everything that breaks a rule in the repository; exceptions are of words alone."""
    unneeded = set(excepted)
    known = links.modules(root)
    for path in (*pages(root), *modules(root)):
        name = str(path.relative_to(root))
        words = list(of_words(path))
        if name in excepted and words:
            unneeded.discard(name)
            words = []
        if path.suffix == ".md":
            others = [*links.broken(path), *of_length(root, path)]
        else:
            others = list(links.named_pages(root, path))
        for line, message in (*words, *others, *links.named_files(root, path, known)):
            yield f"{name}:{line}: {message}"
    for path in sorted(root.glob("tests/**/*.py")):
        for line, message in links.named_files(root, path, known):
            yield f"{path.relative_to(root)}:{line}: {message}"
    for path in commands(root):
        for line, message in links.named_pages(root, path):
            yield f"{path.relative_to(root)}:{line}: {message}"
    for name in sorted(unneeded):
        yield f"{name} needs no exception any more; run: python -m tests.prose --renew"


def renew() -> None:
    """Write ``exceptions.txt`` anew, and say which files it did not have."""
    files = (*pages(ROOT), *modules(ROOT))
    names = sorted(str(path.relative_to(ROOT)) for path in files if any(of_words(path)))
    for name in sorted(set(names).difference(EXCEPTIONS.read_text().split())):
        print(f"{name}: a new exception; rewrite it rather", file=sys.stderr)
    EXCEPTIONS.write_text("".join(f"{name}\n" for name in names))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where a rule is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.prose", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--renew", action="store_true", help="write exceptions.txt anew")
    options = parser.parse_args(arguments)
    if options.renew:
        renew()
        return 0
    if options.files:
        found = [
            f"{path}:{line}: {what}" for path in options.files for line, what in of_words(path)
        ]
    else:
        found = list(complaints(ROOT, set(EXCEPTIONS.read_text().split())))
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
