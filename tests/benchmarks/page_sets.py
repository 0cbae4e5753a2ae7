"""What the suite `memory` stores: files of pages made from a corpus.

    unique   every page that is not same-filled, once
    all      every page
    fork     three times the pages of one program; of each copy a tenth is changed

The files hold memory of programs, as the corpus does: they lie in a directory nobody else
may look into, and go when it does.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.units import PAGE_SIZE
from tests.benchmarks import corpus_table

COPIES = 3
CHANGED = 0.1  # of the pages of each copy
_FORKED = "python"  # or else the first program there is
_WORDS_CHANGED = 8  # of the 512 of a page


def unique(corpus: Sequence[Path]) -> Iterator[bytes]:
    """Each page that is not same-filled, once in all the files."""
    return corpus_table.unique(everything(corpus))


def everything(corpus: Sequence[Path]) -> Iterator[bytes]:
    """All pages of all files."""
    for path in corpus:
        yield from corpus_table.pages_of(path)


def forked(corpus: Sequence[Path]) -> Iterator[bytes]:
    """Three copies of one program, each with some words changed in its own tenth of the pages."""
    path = one_program(corpus)
    for copy in range(COPIES):
        yield from diverged(corpus_table.pages_of(path), random.Random(copy))


def one_program(corpus: Sequence[Path]) -> Path:
    """The one whose memory is copied."""
    return next((path for path in corpus if path.stem == _FORKED), corpus[0])


def diverged(pages: Iterable[bytes], source: random.Random) -> Iterator[bytes]:
    """``pages``, a tenth of them changed."""
    for page in pages:
        yield changed(page, source) if source.random() < CHANGED else page


def changed(page: bytes, source: random.Random) -> bytes:
    """``page`` with a few of its 8-byte words replaced by small numbers."""
    content = bytearray(page)
    for _ in range(_WORDS_CHANGED):
        at = source.randrange(PAGE_SIZE // 8) * 8
        content[at : at + 8] = source.randrange(1, 1 << 24).to_bytes(8, "little")
    return bytes(content)


SETS: dict[str, Callable[[Sequence[Path]], Iterable[bytes]]] = {
    "unique": unique,
    "all": everything,
    "fork": forked,
}


def write(name: str, corpus: Sequence[Path], path: Path) -> int:
    """Write a set to a file: how many pages it has.  Raises `HostError` where it is empty."""
    count = 0
    with open(path, "wb", buffering=1 << 20) as file:
        for page in SETS[name](corpus):
            file.write(page)
            count += 1
    if not count:
        raise HostError(f"there are no pages in {corpus[0].parent}; make it again: scripts/corpus")
    return count
