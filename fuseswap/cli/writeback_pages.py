"""``fuseswap writeback --pid`` and ``--cgroup``: the pages that processes have in swap, no others.

    /proc/PID/pagemap -> pages in swap -> those in memory that are meant, oldest first
        -> orders of at most 4096 pages (``page_ranges.py``) -> look where they are now

The worker gathers them in segments of their own, and a segment that has no others leaves as it
is.  A page that moves in the pool meanwhile is missed: so it is looked twice more.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseswap.cli.output import print_json
from fuseswap.cli.parameter_files import directory_of, set_value
from fuseswap.cli.progress import Progress, progress, states
from fuseswap.cli.swap_owners import pages_in
from fuseswap.cli.targets import existing, processes_in
from fuseswap.cli.written_back import STUCK, moved
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.table_files import table_view
from fuseswap.errors import HostError
from fuseswap.frontswap.backend import IN_PLACE
from fuseswap.reclaim.page_ranges import in_pieces
from fuseswap.sizes import format_size, parse_size
from fuseswap.store.object_size import footprint
from fuseswap.store.slot_word import (
    codec_of,
    is_foreign,
    is_object,
    length_of,
    number_of,
    segment_of,
)
from fuseswap.store.table_view import TableView
from fuseswap.tiers.tier import BACKING_NAME
from fuseswap.units import PAGE_SIZE, PageNumber

_ROUNDS = 3
_LOOK_EVERY_S = 0.02  # an order takes that long
_RAW = range(4)  # codecs of what is kept as it is


@dataclass(frozen=True, slots=True)
class Found:
    """A page with an object.  ``tier``: its name, None in memory.  ``sealed_at``: None if open."""

    page: PageNumber
    tier: str | None
    sealed_at: int | None
    taken_bytes: int
    is_raw: bool


def find(view: TableView, pages: Iterable[PageNumber]) -> list[Found]:
    """What there is of ``pages``, in memory and on tiers; the others need no writeback."""
    found = []
    for page in pages:
        word = view.word(page)
        if is_foreign(word) and number_of(word) == IN_PLACE:
            found.append(Found(page, BACKING_NAME, 0, PAGE_SIZE, is_raw=True))
        elif is_object(word) and (segment := view.segment(segment_of(word))) is not None:
            tier = segment.tier
            name = None if tier is None else view.tier_names.get(tier, f"number {tier}")
            raw = codec_of(word) in _RAW
            found.append(Found(page, name, segment.sealed_at, footprint(length_of(word)), raw))
    return found


def chosen(
    found: Sequence[Found],
    *,
    idle_s: int | None,
    incompressible: bool,
    most_bytes: int | None,
    now_s: float,
) -> list[PageNumber]:
    """Those in memory that are to leave: the longest sealed, up to ``most_bytes``; in order."""
    in_memory = [
        one
        for one in found
        if one.tier is None
        and (one.is_raw or not incompressible)
        and (not idle_s or (one.sealed_at is not None and now_s - one.sealed_at >= idle_s))
    ]
    if most_bytes is not None:
        in_memory.sort(key=lambda one: now_s if one.sealed_at is None else one.sealed_at)
        for count, one in enumerate(in_memory):
            most_bytes -= one.taken_bytes
            if most_bytes < 0:
                del in_memory[count:]
                break
    return sorted(one.page for one in in_memory)


def run(options: argparse.Namespace) -> int:
    """Write back what processes have in one device, with progress; say what went where."""
    most_bytes = None if options.max is None else parse_size(options.max)
    pids = processes_in(options.cgroup) if options.cgroup else existing(options.pid)
    runtime = Runtime(options.name)
    stats = Path(runtime.config().mountpoint) / "stats"
    theirs = pages_in(runtime, pids)
    wanted = chosen(
        _look(runtime, theirs),
        idle_s=options.idle,
        incompressible=options.incompressible,
        most_bytes=most_bytes,
        now_s=time.clock_gettime(time.CLOCK_BOOTTIME),
    )
    _, before = moved(stats)
    tier = "" if options.tier is None else f" tier={options.tier}"
    _write(runtime, wanted, tier)
    now = _look(runtime, wanted)
    where = Counter(one.tier for one in now if one.tier is not None)
    left = sum(one.tier is None for one in now)
    written = (moved(stats)[1] - before) * PAGE_SIZE
    gone = where.total()
    if options.json:
        print_json(
            {
                "name": options.name,
                "pages": gone,
                "swap_bytes": gone * PAGE_SIZE,
                "tier_pages": dict(where),
                "left_pages": left,
                "written_bytes": written,
            }
        )
        return 0
    names = ", ".join(f"{count} to {name}" for name, count in sorted(where.items()))
    print(
        f"{options.name}: {gone} pages ({format_size(gone * PAGE_SIZE)}) moved"
        f"{f': {names}' if names else ''}; {format_size(written)} written"
    )
    if left:
        print(f"{left} of them changed or moved meanwhile, and stayed in memory", file=sys.stderr)
    return 0


def _look(runtime: Runtime, pages: Iterable[PageNumber]) -> list[Found]:
    with table_view(runtime) as view:
        return find(view, pages)


def _write(runtime: Runtime, wanted: Sequence[PageNumber], tier: str) -> None:
    """Give the orders, and again for those pages that were missed.  Raises `HostError`."""
    left = wanted
    with progress() as shown:
        for _ in range(_ROUNDS):
            if not left:
                break
            before = len(left)
            _order(runtime.name, left, tier, shown)
            left = sorted(one.page for one in _look(runtime, left) if one.tier is None)
            if len(left) == before:
                raise HostError(STUCK)


def _order(name: str, pages: Sequence[PageNumber], tier: str, shown: Progress) -> None:
    """One order after the other; the last one sends off what was gathered."""
    path = directory_of(name) / "writeback"
    done = 0
    for text, count in in_pieces(pages):
        more = " more" if done + count < len(pages) else ""
        set_value(path, f"pages={text}{tier}{more}")
        for _ in states(name, path, STUCK, look_every_s=_LOOK_EVERY_S):
            bar = shown.bar(done, len(pages))
            shown.show(f"{bar}{done} of {len(pages)} pages")
        done += count
        shown.show(f"{shown.bar(done, len(pages))}{done} of {len(pages)} pages")
