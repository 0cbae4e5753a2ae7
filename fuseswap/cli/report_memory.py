"""Pictures of memory: from the stored pages to it, its parts, codecs, and tiers.

The numbers are those of ``fuseswap status NAME``, and add up as there (``savings.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fuseswap.cli.charts import DOTTED, HATCHED, SOLID, Bar, bars
from fuseswap.cli.drawing import Picture
from fuseswap.cli.savings import by_codec
from fuseswap.sizes import format_size

_SAVED = (
    ("same-filled pages", "same_filled_bytes_saved", "same_filled_pages"),
    ("duplicates", "duplicate_bytes_saved", "duplicate_pages"),
    ("compression", "compression_bytes_saved", ""),
    ("compressed again, harder", "recompression_bytes_saved", ""),
    ("written to tiers, or in place", "writeback_bytes_saved", ""),
    ("in backends that were added", "other_backends_bytes", ""),
)


def pictures(stats: dict[str, int], tiers: list[dict[str, Any]]) -> Iterator[Picture]:
    """Those there are numbers for."""
    if "pool_unused_bytes" in stats:
        yield _ledger(stats)
        yield _parts(stats)
        if codecs := list(by_codec(stats)):
            yield _codecs(codecs)
    if tiers:
        yield _tiers(tiers)


def _ledger(stats: dict[str, int]) -> Picture:
    left = stats["orig_data_size"]
    rows = [Bar("stored pages, uncompressed", format_size(left), 0, left)]
    numbers = [("stored", left)]
    for label, name, pages in _SAVED:
        if saved := stats.get(name, 0):
            count = f" ({stats[pages]})" if pages else ""
            left -= saved
            start, length = (left, saved) if saved > 0 else (left + saved, -saved)
            rows.append(
                Bar(f"\N{MINUS SIGN} {label}{count}", format_size(saved), start, length, HATCHED)
            )
            numbers.append((label, -saved))
    for label, name in (("overhead: tables, checksums", "metadata_bytes"), *_UNUSED):
        added = stats[name]
        rows.append(Bar(f"+ {label}", format_size(added), left, added, DOTTED))
        numbers.append((label, added))
        left += added
    used = stats["mem_used_total"]
    rows.append(Bar("= memory for them", format_size(used), 0, used))
    return Picture(
        "From pages to memory",
        "Each hatched bar is what was saved, each dotted one what is added; the last one is left.",
        bars("from stored pages to memory", rows),
        ("part", "bytes"),
        [(label, str(number)) for label, number in (*numbers, ("memory", used))],
    )


_UNUSED = (("dead, or not filled yet", "pool_unused_bytes"),)


def _parts(stats: dict[str, int]) -> Picture:
    metadata, unused = stats["metadata_bytes"], stats["pool_unused_bytes"]
    index = min(stats.get("dedup_index_bytes", 0), metadata)
    count = stats.get("dictionaries", 0)
    own = ("worker's heap and stacks", stats.get("mem_worker", 0))
    ready = ("frames kept ready", stats.get("reserve_bytes", 0))
    standby = ("standby", stats.get("mem_standby", 0))
    others = stats["mem_fixed"] - own[1] - ready[1] - standby[1]
    grows = [
        ("compressed pages", stats["mem_used_total"] - metadata - unused),
        (f"tables, checksums, dictionaries ({count})", metadata - index),
        ("index of contents, for duplicates", index),
        ("dead, or not filled yet", unused),
    ]
    fixed = [own, standby, ready, ("supervisor, program and libraries", others)]
    rows = [Bar(label, format_size(size), 0, size) for label, size in grows if size > 0]
    rows += [Bar(label, format_size(size), 0, size, HATCHED) for label, size in fixed if size > 0]
    if more := stats.get("mem_backends"):
        rows.append(Bar("backends that were added", format_size(more), 0, more, DOTTED))
    sums = f"{format_size(stats['mem_used_total'])} and {format_size(stats['mem_fixed'])}"
    return Picture(
        "What takes memory now",
        f"Solid bars grow with what is stored, hatched ones are fixed: {sums} together.",
        bars("parts of memory", rows),
        ("part", "bytes"),
        [(label, str(size)) for label, size in (*grows, *fixed)],
    )


def _codecs(codecs: list[tuple[str, int, int]]) -> Picture:
    rows = [
        Bar(f"{name}, {pages} pages", format_size(taken), 0, taken, SOLID, pages * 4096)
        for name, taken, pages in codecs
    ]
    return Picture(
        "By codec",
        "The frame is what its pages would take uncompressed, the bar what they take, "
        "in memory or on a tier.",
        bars("codecs", rows),
        ("codec", "pages", "bytes"),
        [(name, str(pages), str(taken)) for name, taken, pages in codecs],
    )


def _tiers(tiers: list[dict[str, Any]]) -> Picture:
    rows, numbers = [], []
    for tier in tiers:
        name, used, size = str(tier["name"]), tier["used_bytes"], tier["size_bytes"]
        label = f"{name} ({tier['state']}), {tier.get('pages', 0)} pages"
        value = f"{format_size(used)} of {format_size(size)}"
        rows.append(Bar(label, value, 0, used, SOLID, size))
        errors = str(tier["errors"])
        numbers.append((name, str(tier["state"]), str(used), str(size), errors))
    return Picture(
        "Tiers",
        "The frame is the size of a tier, the bar what segments of cold pages take there.",
        bars("tiers", rows),
        ("tier", "state", "bytes", "of", "errors"),
        numbers,
    )
