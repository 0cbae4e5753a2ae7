"""``fuseswap recompress``: compress cold pages again, harder, now, with progress."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fuseswap.cli.output import print_json
from fuseswap.cli.parameter_files import directory_of
from fuseswap.cli.parser import whole
from fuseswap.cli.progress import order
from fuseswap.daemon.runtime_dir import DEFAULT_NAME
from fuseswap.errors import InvalidArgument
from fuseswap.linux.timed_file import read_file
from fuseswap.sizes import format_size


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "recompress",
        help="compress cold pages harder now",
        description="Compress cold pages again, harder, and show how far it is.",
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default=DEFAULT_NAME, help="default swap0"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--idle", type=whole, metavar="SECONDS", help="segments sealed longer ago than this"
    )
    which.add_argument("--all", action="store_true", help="everything in memory (default)")
    parser.add_argument("--json", action="store_true", help="what was done, as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask for it, show how far it is until it is done, and print what it was good for."""
    if read_file(directory_of(options.name) / "recomp_algorithm").strip() == "none":
        raise InvalidArgument(
            f"recomp_algorithm is none; see: fuseswap set {options.name} recomp_algorithm=zstd:12"
        )
    stats = directory_of(options.name).parent / "stats"
    before = _done(stats)
    order(
        options.name,
        "recompress",
        "all" if options.idle is None else f"idle={options.idle}",
        "recompression does not go on: is the pool full, or the processor busy?",
    )
    pages, old, new = (now - then for now, then in zip(_done(stats), before, strict=True))
    if options.json:
        print_json({"name": options.name, "pages": pages, "before_bytes": old, "after_bytes": new})
    else:
        print(
            f"{options.name}: {pages} pages recompressed, "
            f"{format_size(old)} are {format_size(new)} now"
        )
    return 0


def _done(stats: Path) -> list[int]:
    """Pages that were recompressed so far, and their bytes before and after."""
    names = ("recompressed_pages", "recompressed_bytes_before", "recompressed_bytes_after")
    return [int(read_file(stats / name)) for name in names]
