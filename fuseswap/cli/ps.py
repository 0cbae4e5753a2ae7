"""``fuseswap ps``: whose pages are in the swap, and what they take there.

By process, or with ``--cgroup`` by memory cgroup.  Looks at /proc/PID/pagemap and at the tables in
shared memory; the worker is not asked and notices nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fuseswap.cli.output import print_json
from fuseswap.cli.parser import whole
from fuseswap.cli.status import table
from fuseswap.cli.swap_owners import Owner, by_cgroup, owners
from fuseswap.cli.swap_use import SwapUse
from fuseswap.daemon.runtime_dir import all_devices
from fuseswap.daemon.stripe_set import devices_named
from fuseswap.errors import InvalidArgument
from fuseswap.sizes import format_size
from fuseswap.units import PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Column:
    """How one is shown, and what it is sorted by."""

    name: str
    help: str
    read: Callable[[Owner], int | float | str | None]
    is_size: bool = False


def _share(part: Callable[[SwapUse], int]) -> Callable[[Owner], int | None]:
    return lambda owner: part(owner.use) * 100 // owner.use.pages if owner.use.pages else None


def _ratio(owner: Owner) -> float | None:
    taken = owner.use.taken_bytes
    return round(owner.use.swap_bytes / taken, 2) if taken else None


_COLUMNS = (
    Column("SWAP", "its pages in swap, uncompressed", lambda o: o.use.swap_bytes, True),
    Column("TAKES", "what they take, in memory and on tiers", lambda o: o.use.taken_bytes, True),
    Column("RATIO", "SWAP / TAKES", _ratio),
    Column("MEMORY", "of TAKES, in memory", lambda o: round(o.use.memory_bytes), True),
    Column("TIERS", "of TAKES, on tiers", lambda o: o.use.tier_bytes, True),
    Column("SAME%", "of its pages, same-filled ones", _share(lambda use: use.same_filled)),
    Column("DUP%", "of its pages, those that others share", _share(lambda use: use.duplicates)),
    Column("AGE", "half of them were stored so many seconds ago", lambda o: o.use.age_seconds),
)
_PID = Column("PID", "number of the process", lambda o: o.pid)
_COMMAND = Column("COMMAND", "its name", lambda o: o.name)
_CGROUP = Column("CGROUP", "with --cgroup: its path", lambda o: o.name)
COLUMNS = (_PID, *_COLUMNS, _COMMAND, _CGROUP)  # not all at once


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    columns = "\n".join(f"  {column.name:<9}{column.help}" for column in COLUMNS)
    parser = commands.add_parser(
        "ps",
        help="whose pages are in the swap",
        description="Show which processes have pages in the swap, and what they take there.",
        epilog=f"columns:\n{columns}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="one device; all, if left out")
    parser.add_argument("--cgroup", action="store_true", help="by memory cgroup")
    parser.add_argument("--pid", metavar="PID", type=whole, action="append", help="these alone")
    parser.add_argument("--sort", metavar="COLUMN", default="TAKES", help="default TAKES")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.add_argument("--bytes", action="store_true", help="sizes in bytes")
    parser.add_argument("--noheadings", action="store_true", help="no headings, no last line")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table or the JSON."""
    first, last = ((), (_CGROUP,)) if options.cgroup else ((_PID,), (_COMMAND,))
    columns = (*first, *_COLUMNS, *last)
    key = _sort_key(columns, options.sort)
    runtimes = devices_named(options.name) if options.name else all_devices()
    found, others = owners(runtimes, options.pid)
    lines = sorted(by_cgroup(found) if options.cgroup else found, key=key)
    if options.json:
        print_json({"owners": [_as_json(one) for one in lines], "others": others})
        return 0
    rows = [[_shown(column, one, options.bytes) for column in columns] for one in lines]
    if not options.noheadings:
        rows.insert(0, [column.name for column in columns])
    if rows:
        print(table(rows))
    if not options.noheadings and others:
        size = format_size(others * PAGE_SIZE)
        print(f"others: {size} of tmpfs, shared memory, or pages of nobody any more")
    return 0


def _sort_key(columns: Sequence[Column], name: str) -> Callable[[Owner], tuple[bool, Any]]:
    """Numbers from the greatest down, names from the first on; unknown ones come last."""
    by_name = {column.name: column for column in columns}
    column = by_name.get(name.upper())
    if column is None:
        raise InvalidArgument(f"there is no column '{name}'; there are: {', '.join(by_name)}")

    def key(owner: Owner) -> tuple[bool, Any]:
        value = column.read(owner)
        if value is None:
            return True, 0
        return False, value if isinstance(value, str) or column is _PID else -value

    return key


def _shown(column: Column, owner: Owner, in_bytes: bool) -> str:
    value = column.read(owner)
    if value is None:
        return "-"
    return format_size(int(value)) if column.is_size and not in_bytes else str(value)


def _as_json(owner: Owner) -> dict[str, Any]:
    use = owner.use
    return {
        "pid": owner.pid,
        "name": owner.name,
        "pages": use.pages,
        "swap_bytes": use.swap_bytes,
        "taken_bytes": use.taken_bytes,
        "memory_bytes": round(use.memory_bytes),
        "tier_bytes": {name: round(taken) for name, taken in use.by_tier.items()},
        "same_filled_pages": use.same_filled,
        "duplicate_pages": use.duplicates,
        "plain_pages": use.plain_pages,
        "elsewhere_pages": use.elsewhere,
        "age_seconds": use.age_seconds,
    }
