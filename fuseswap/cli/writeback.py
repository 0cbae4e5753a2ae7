"""``fuseswap writeback``: move cold pages to the backing file now, with progress."""

from __future__ import annotations

import argparse
from typing import Any

from fuseswap.cli.progress import order
from fuseswap.daemon import config
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "writeback",
        help="write cold pages back now",
        description="Write cold pages to the backing file now, and show how far it is.",
    )
    parser.add_argument("name", nargs="?", default=config.DEFAULT_NAME, help="default swap0")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--idle", type=int, metavar="SECONDS", help="segments sealed longer ago than this"
    )
    which.add_argument("--incompressible", action="store_true", help="pages that do not compress")
    which.add_argument("--all", action="store_true", help="everything (default)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask for it, then show how far it is until it is done."""
    if options.idle is not None:
        wanted = f"idle={options.idle}"
    else:
        wanted = "incompressible" if options.incompressible else "all"
    if not Runtime(options.name).config().backing:
        raise HostError(f"{options.name} has no backing file; see: fuseswap up --backing PATH")
    order(
        options.name,
        "writeback",
        wanted,
        "writeback does not go on: is the backing file full, or the budget spent?",
    )
    return 0
