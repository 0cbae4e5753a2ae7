"""``fuseswap writeback``: move cold pages to tiers now, with progress."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fuseswap.cli.output import print_json
from fuseswap.cli.parser import whole
from fuseswap.cli.progress import order
from fuseswap.daemon.runtime_dir import DEFAULT_NAME, Runtime
from fuseswap.linux.timed_file import read_file
from fuseswap.sizes import format_size, parse_size
from fuseswap.units import PAGE_SIZE


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "writeback",
        help="write cold pages back now",
        description="Write cold pages to tiers now, and show how far it is.",
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default=DEFAULT_NAME, help="default swap0"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--idle", type=whole, metavar="SECONDS", help="segments sealed longer ago than this"
    )
    which.add_argument("--incompressible", action="store_true", help="pages that do not compress")
    which.add_argument("--all", action="store_true", help="everything (default)")
    parser.add_argument("--max", metavar="SIZE", help="at most so much of them, compressed: 64M")
    parser.add_argument("--tier", metavar="TIER", help="to this tier (default: by priority)")
    parser.add_argument("--json", action="store_true", help="what was done, as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask for it, then show how far it is until it is done."""
    if options.idle is not None:
        wanted = f"idle={options.idle}"
    else:
        wanted = "incompressible" if options.incompressible else "all"
    if options.max is not None:
        wanted += f" max={parse_size(options.max)}"
    if options.tier is not None:
        wanted += f" tier={options.tier}"
    path = Path(Runtime(options.name).config().mountpoint) / "stats"
    before = _moved(path)
    order(
        options.name,
        "writeback",
        wanted,
        "writeback does not go on: are the tiers full, or the budget spent?",
    )
    pages, units = (now - then for now, then in zip(_moved(path), before, strict=True))
    written = units * PAGE_SIZE
    if options.json:
        print_json({"name": options.name, "pages": pages, "written_bytes": written})
    else:
        print(f"{options.name}: {pages} pages moved, {format_size(written)} written")
    return 0


def _moved(stats: Path) -> tuple[int, int]:
    """Pages that were written back so far, and units of 4096 bytes."""
    names = ("written_back_pages", "bd_writes")
    pages, units = (int(read_file(stats / name)) for name in names)
    return pages, units
