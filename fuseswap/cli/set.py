"""``fuseswap set``: change parameters of a device."""

from __future__ import annotations

import argparse
from typing import Any

from fuseswap.cli import config_files
from fuseswap.cli.parameter_files import directory_of, find, help_text, set_value
from fuseswap.errors import InvalidArgument


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "set",
        help="change a parameter",
        description="Change parameters of a device while it runs.",
        epilog=help_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("assignment", metavar="PARAM=VALUE", nargs="+")
    parser.add_argument(
        "--save", action="store_true", help="also for the next time: in /etc/fuseswap.conf.d"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Set each PARAM=VALUE in order; all names are checked before the first is set."""
    pairs = []
    for assignment in options.assignment:
        name, equals, value = assignment.partition("=")
        if not equals or not value:
            raise InvalidArgument(f"'{assignment}' is not PARAM=VALUE")
        pairs.append((find(name), value))
    directory = directory_of(options.name)
    for parameter, value in pairs:
        set_value(directory / parameter.name, value)
    if options.save:
        lasting = {parameter.name: value for parameter, value in pairs if parameter.lasting}
        print(f"saved in {config_files.save(options.name, lasting)}")
    return 0
