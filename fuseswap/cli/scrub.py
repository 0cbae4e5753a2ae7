"""``fuseswap scrub``: read everything back, verify every check, and name what is bad."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from fuseswap.cli.output import print_json
from fuseswap.cli.parameter_files import directory_of
from fuseswap.cli.progress import order
from fuseswap.daemon.runtime_dir import DEFAULT_NAME
from fuseswap.linux.timed_file import read_file
from fuseswap.sizes import parse_size

_STUCK_AFTER_S = 120.0  # a tier that does not answer is read for so long at most


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "scrub",
        help="read everything back and verify it",
        description="Read everything back, verify every check, and name the pages that are bad. "
        "What a mirror has in two copies is repaired from the good one.",
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", default=DEFAULT_NAME, help="default swap0"
    )
    parser.add_argument("--tier", metavar="TIER", help="only what is on this tier")
    parser.add_argument("--rate", metavar="SIZE", help="read at most so much a second: 50M")
    parser.add_argument("--json", action="store_true", help="what was found, as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask for it, show how far it is, print what was found; 2 where a page is bad."""
    wanted = "all" if options.tier is None else f"tier={options.tier}"
    if options.rate is not None:
        wanted += f" rate={parse_size(options.rate)}"
    stuck = "the scrub does not go on: does a tier not answer?"
    order(options.name, "scrub", wanted, stuck, stuck_after_s=_STUCK_AFTER_S)
    state, *bad = read_file(directory_of(options.name) / "scrub").splitlines()
    found = state.partition(": ")[2]
    if options.json:
        print_json({"name": options.name, "found": found, "bad": bad})
    else:
        print(f"{options.name}: {found}", *bad, sep="\n")
    if bad:
        print(f"fuseswap: {options.name} has bad pages: reading them is an error", file=sys.stderr)
    return 2 if bad else 0
