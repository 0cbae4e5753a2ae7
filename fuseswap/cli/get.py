"""``fuseswap get``: show one parameter of a device, or all."""

from __future__ import annotations

import argparse
from typing import Any

from fuseswap.cli.output import print_json
from fuseswap.cli.parameter_files import directory_of, find, help_text
from fuseswap.filesystem.parameters import PARAMETERS
from fuseswap.linux.timed_file import read_file


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "get",
        help="show a parameter",
        description="Show a parameter of a device, or all.",
        epilog=help_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("parameter", metavar="PARAM", nargs="?", help="all, if left out")
    parser.add_argument("--json", action="store_true", help="an object of them, as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print one value alone, or all as PARAM=VALUE."""
    if options.parameter:
        find(options.parameter)
    directory = directory_of(options.name)
    names = [options.parameter] if options.parameter else [p.name for p in PARAMETERS]
    values = {name: read_file(directory / name).strip() for name in names}
    if options.json:
        print_json(values)
    elif options.parameter:
        print(values[options.parameter])
    else:
        print(*(f"{name}={value}" for name, value in values.items()), sep="\n")
    return 0
