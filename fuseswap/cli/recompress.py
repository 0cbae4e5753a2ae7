"""``fuseswap recompress``: compress cold pages again, harder, now, with progress."""

from __future__ import annotations

import argparse
from typing import Any

from fuseswap.cli.parameter_files import directory_of
from fuseswap.cli.progress import order
from fuseswap.daemon import config
from fuseswap.errors import InvalidArgument
from fuseswap.linux.timed_file import read_file


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "recompress",
        help="compress cold pages harder now",
        description="Compress cold pages again, harder, and show how far it is.",
    )
    parser.add_argument("name", nargs="?", default=config.DEFAULT_NAME, help="default swap0")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--idle", type=int, metavar="SECONDS", help="segments sealed longer ago than this"
    )
    which.add_argument("--all", action="store_true", help="everything in memory (default)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask for it, then show how far it is until it is done."""
    if read_file(directory_of(options.name) / "recomp_algorithm").strip() == "none":
        raise InvalidArgument(
            f"recomp_algorithm is none; see: fuseswap set {options.name} recomp_algorithm=zstd:6"
        )
    order(
        options.name,
        "recompress",
        "all" if options.idle is None else f"idle={options.idle}",
        "recompression does not go on: is the pool full, or the processor busy?",
    )
    return 0
