"""Stored pages, the savings of each trick, the memory left: a ledger that adds up.

    DATA - all that was saved + metadata + room not in use = TOTAL

to the byte (``docs/statistics.md``).  Shown by ``fuseswap status NAME``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fuseswap.sizes import format_size

# Statistic and title; one that is 0, or unknown to the worker, is left out.
_SAVED = (
    ("same_filled_bytes_saved", "same-filled"),
    ("duplicate_bytes_saved", "duplicates"),
    ("compression_bytes_saved", "compression"),
    ("recompression_bytes_saved", "recompression"),
    ("writeback_bytes_saved", "writeback"),
    ("other_backends_bytes", "other backends"),
)
_RAW = "incompressible"
_CODECS = (
    ("raw", _RAW),
    ("lz4", "lz4"),
    ("zstd", "zstd"),
    ("zstd_dictionary", "zstd, dictionary"),
)
_PAGES_OF = "codec_pages."
_LISTED = {"fill", *(name for name, _ in _CODECS)}  # fills are among same-filled pages


def savings(stats: dict[str, int], *, in_bytes: bool) -> list[str]:
    """Two blocks of at most 80 columns, an empty line before each.

    None for a worker that does not have the numbers.
    """
    if "pool_unused_bytes" not in stats:
        return []

    def size(number: int) -> str:
        return str(number) if in_bytes else format_size(number)

    rows = [("stored", size(stats["orig_data_size"]), _pages(stats["stored_pages"]))]
    if stats.get("uncounted_pages"):
        rows.append(("not counted yet", "", f"up to {_pages(stats['uncounted_pages'])}"))
    rows += [
        (title, f"-{size(stats[name])}", _note(name, stats, size))
        for name, title in _SAVED
        if stats.get(name)
    ]
    rows += [
        ("metadata", f"+{size(stats['metadata_bytes'])}", "tables, owners and checksums"),
        ("unused", f"+{size(stats['pool_unused_bytes'])}", "dead, not filled yet, or free"),
        ("memory", size(stats["mem_used_total"]), f"at most {size(stats['mem_used_max'])}"),
        ("fixed", size(stats["mem_fixed"]), "worker, standby and supervisor"),
    ]
    if core := core_of(stats):
        rows.append(("core", "", core))
    width = max(len(row[1]) for row in rows)
    lines = ["", *(_line(row, width) for row in rows)]
    codecs = [
        _line((name, size(taken), _each(name, taken, pages)), width)
        for name, taken, pages in by_codec(stats)
    ]
    return [*lines, "", *codecs] if codecs else lines


def core_of(stats: dict[str, int]) -> str | None:
    """How the modules that a page passes through run; None of a worker that does not say."""
    found = stats.get("core_compiled")
    return None if found is None else "compiled" if found else "interpreted"


def _line(row: tuple[str, str, str], width: int) -> str:
    title, number, note = row
    return f"  {title:<17}{number:>{width}}  {note}".rstrip()


def _pages(count: int) -> str:
    return f"{count} page{'s' * (count != 1)}"


def _note(name: str, stats: dict[str, int], size: Callable[[int], str]) -> str:
    if name == "same_filled_bytes_saved":
        return _pages(stats["same_filled_pages"])
    if name == "duplicate_bytes_saved":
        return _pages(stats["duplicate_pages"])
    if name == "recompression_bytes_saved":
        used_us = stats.get("recompress_cpu_us")
        return "estimated" + (f", for {used_us / 1e6:.1f} s of processor" if used_us else "")
    if name == "writeback_bytes_saved":
        return f"of {size(stats['bd_count'] * 4096)} taken elsewhere"
    return ""


def by_codec(stats: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    """What the pages of each codec take, in bytes, and how many they are; none without a page."""
    for name, title in _CODECS:
        if pages := stats[f"{name}_pages"]:
            yield title, stats[f"{name}_bytes"], pages
    for key, pages in stats.items():
        name = key.removeprefix(_PAGES_OF)
        if key.startswith(_PAGES_OF) and pages and name not in _LISTED:
            yield name, stats[f"codec_bytes.{name}"], pages


def _each(title: str, taken: int, pages: int) -> str:
    return _pages(pages) + (f", {taken // pages} bytes each" if title != _RAW else "")
