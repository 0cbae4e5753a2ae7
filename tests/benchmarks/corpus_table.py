"""What is in a corpus: same-filled pages, duplicates, and how far the others compress.

A page counts as what it is first: same-filled, or a duplicate of a page before it, or
unique.  Bytes a page are the means of unique pages, compressed as the pool does it (zstd
frames without magic and sizes), with a page that does not shrink counted as 4096.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from fuseswap.codecs.registry import parse_compressor
from fuseswap.units import MIB, PAGE_SIZE
from tests.benchmarks.report import align

CODECS = ("lz4", "zstd:1")
_PAGES_A_READ = MIB // PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Content:
    """Of one file: pages of each sort, and the mean bytes of a unique page by codec."""

    name: str
    pages: int
    same_filled: int
    duplicates: int
    mean_bytes: Mapping[str, float]

    @property
    def unique(self) -> int:
        """Pages that are neither same-filled nor like one before."""
        return self.pages - self.same_filled - self.duplicates


def pages_of(path: Path) -> Iterator[bytes]:
    """The pages of a file, 4096 bytes each, in order."""
    with open(path, "rb") as file:
        while data := file.read(_PAGES_A_READ * PAGE_SIZE):
            for at in range(0, len(data) - PAGE_SIZE + 1, PAGE_SIZE):
                yield data[at : at + PAGE_SIZE]


def is_same_filled(page: bytes) -> bool:
    """Whether it is one 8-byte word over and over."""
    return page[8:] == page[:-8]


def unique(pages: Iterable[bytes]) -> Iterator[bytes]:
    """Those that are not same-filled, each once (by a 128-bit hash)."""
    seen = set()
    for page in pages:
        if not is_same_filled(page):
            key = xxhash.xxh3_128_digest(page)
            if key not in seen:
                seen.add(key)
                yield page


def survey(name: str, pages: Iterable[bytes]) -> Content:
    """Look at every page once."""
    compressors = [parse_compressor(codec) for codec in CODECS]
    totals = dict.fromkeys(CODECS, 0)
    count = same_filled = uniques = 0

    def counted() -> Iterator[bytes]:
        nonlocal count, same_filled
        for page in pages:
            count += 1
            same_filled += is_same_filled(page)
            yield page

    for page in unique(counted()):
        uniques += 1
        for compressor in compressors:
            totals[compressor.name] += min(len(compressor.compress(page)), PAGE_SIZE)
    return Content(
        name=name,
        pages=count,
        same_filled=same_filled,
        duplicates=count - same_filled - uniques,
        mean_bytes={codec: total / max(uniques, 1) for codec, total in totals.items()},
    )


def total(contents: Sequence[Content]) -> Content:
    """All of them together; a page that two programs have is not counted as a duplicate."""
    uniques = max(sum(one.unique for one in contents), 1)
    return Content(
        name="all",
        pages=sum(one.pages for one in contents),
        same_filled=sum(one.same_filled for one in contents),
        duplicates=sum(one.duplicates for one in contents),
        mean_bytes={
            codec: sum(one.mean_bytes[codec] * one.unique for one in contents) / uniques
            for codec in CODECS
        },
    )


def table(contents: Sequence[Content]) -> str:
    """One line a program, and the sum."""
    rows = [["program", "pages", "MiB", "same-filled", "duplicates", "unique", *CODECS]]
    for one in (*contents, total(contents)):
        numbers = (one.pages, one.pages * PAGE_SIZE // MIB, one.same_filled, one.duplicates)
        means = (f"{one.mean_bytes[codec]:.0f}" for codec in CODECS)
        rows.append([one.name, *map(str, numbers), str(one.unique), *means])
    return align(rows)
