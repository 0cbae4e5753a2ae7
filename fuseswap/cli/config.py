"""``fuseswap config``: look at the configuration files, and check them."""

from __future__ import annotations

import argparse
from typing import Any

from fuseswap.cli import config_files, configured
from fuseswap.cli.output import print_json
from fuseswap.cli.parser import add_commands
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.parameters import PARAMETERS


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "config",
        help="the configuration files",
        description="Show or check /etc/fuseswap.conf and what is beside it.",
    )
    what = add_commands(parser, "ACTION")
    what.add_parser("check", help="say what is not valid").set_defaults(run=check)
    shown = what.add_parser("show", help="what holds, and from which file")
    shown.add_argument("name", metavar="NAME", nargs="?", help="one device; all, if left out")
    shown.add_argument("--json", action="store_true", help="as JSON")
    shown.set_defaults(run=show)
    what.add_parser("default", help="a file with every key, to begin with").set_defaults(
        run=default
    )


def check(options: argparse.Namespace) -> int:
    """Every section, as `up` reads it; raises `InvalidArgument` at the first fault."""
    sections = config_files.sections()
    for name, section in sections.items():
        Runtime(name)  # whether a device can have that name
        options.parse(["up", *configured.wanted(name, section).words, name])
    files = [str(path) for path in config_files.files()]
    print(f"{_devices(len(sections))} in {', '.join(files)}" if files else "no configuration file")
    return 0


def _devices(count: int) -> str:
    return f"{count} device{'s' * (count != 1)}"


def show(options: argparse.Namespace) -> int:
    """In the form of a file, with a comment behind each value; or as JSON."""
    sections = config_files.sections()
    if options.name is not None:
        if options.name not in sections:
            raise InvalidArgument(f"no configuration file has a section [{options.name}]")
        sections = {options.name: sections[options.name]}
    if options.json:
        found = {
            name: {key: {"value": v.text, "file": str(v.path)} for key, v in section.items()}
            for name, section in sections.items()
        }
        print_json(found)
        return 0
    for number, (name, section) in enumerate(sections.items()):
        print("\n" * (number > 0) + f"[{name}]")
        for key, value in section.items():
            print(f"# {value.path}\n{key} = {value.text}")
    return 0


def default(options: argparse.Namespace) -> int:
    """A commented file: `fuseswap config default > /etc/fuseswap.conf`."""
    lines = ["# Devices of fuseswap: a section each. See fuseswap(8).", "[swap0]"]
    lines += [f"# {key.name} =    ; {key.help}" for key in configured.KEYS]
    lines += ["", "# Parameters, as of `fuseswap set`:"]
    lines += [f"# {one.name} =    ; {one.values}" for one in PARAMETERS]
    print("\n".join(lines))
    return 0
