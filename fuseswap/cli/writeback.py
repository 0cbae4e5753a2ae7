"""``fuseswap writeback``: move cold pages to tiers now, with progress."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fuseswap.cli.output import print_json
from fuseswap.cli.parser import some, whole
from fuseswap.cli.progress import order
from fuseswap.cli.written_back import STUCK, moved
from fuseswap.daemon.runtime_dir import DEFAULT_NAME, Runtime
from fuseswap.sizes import format_size, parse_size
from fuseswap.units import PAGE_SIZE


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "writeback",
        help="write cold pages back now",
        description="Write cold pages to tiers now, and show how far it is.",
        epilog="With --pid or --cgroup those pages of the processes that are in swap leave, and no "
        "others but those that have the same contents.",
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
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument(
        "--pid", type=whole, metavar="PID", action="append", help="of this process; again: of more"
    )
    whose.add_argument(
        "--cgroup", type=some, metavar="PATH", help="of all processes of a memory cgroup"
    )
    parser.add_argument("--max", metavar="SIZE", help="at most so much of them, compressed: 64M")
    parser.add_argument("--tier", metavar="TIER", help="to this tier (default: by priority)")
    parser.add_argument("--json", action="store_true", help="what was done, as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask for it, then show how far it is until it is done."""
    if options.pid or options.cgroup:
        from fuseswap.cli.writeback_pages import run as run_for_processes

        return run_for_processes(options)
    if options.idle is not None:
        wanted = f"idle={options.idle}"
    else:
        wanted = "incompressible" if options.incompressible else "all"
    if options.max is not None:
        wanted += f" max={parse_size(options.max)}"
    if options.tier is not None:
        wanted += f" tier={options.tier}"
    path = Path(Runtime(options.name).config().mountpoint) / "stats"
    before = moved(path)
    order(options.name, "writeback", wanted, STUCK)
    pages, units = (now - then for now, then in zip(moved(path), before, strict=True))
    written = units * PAGE_SIZE
    if options.json:
        print_json({"name": options.name, "pages": pages, "written_bytes": written})
    else:
        print(f"{options.name}: {pages} pages moved, {format_size(written)} written")
    return 0
