"""``fuseswap get``: show one parameter of a device, or all."""

from __future__ import annotations

import argparse
from typing import Any

from fuseswap.cli.parameter_files import directory_of, help_text
from fuseswap.filesystem.parameters import PARAMETERS, find_parameter
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
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print one value alone, or all as PARAM=VALUE."""
    directory = directory_of(options.name)
    if options.parameter:
        find_parameter(options.parameter)
        print(read_file(directory / options.parameter).strip())
        return 0
    for parameter in PARAMETERS:
        print(f"{parameter.name}={read_file(directory / parameter.name).strip()}")
    return 0
