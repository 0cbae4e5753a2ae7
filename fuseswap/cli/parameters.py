"""``fuseswap get`` and ``fuseswap set``: parameters, through their files at the mountpoint."""

from __future__ import annotations

import argparse
import errno
from pathlib import Path
from typing import Any

from fuseswap.errors import HostError, InvalidArgument
from fuseswap.host.reading import read_file, write_file
from fuseswap.host.runtime import Runtime
from fuseswap.parameters import PARAMETERS, find_parameter


def add_to(commands: Any) -> None:
    """Add both subcommands."""
    table = "\n".join(f"  {p.name} ({p.values})\n      {p.help}" for p in PARAMETERS)
    shape = argparse.RawDescriptionHelpFormatter
    get = commands.add_parser(
        "get", help="show a parameter", epilog=f"parameters:\n{table}", formatter_class=shape
    )
    get.add_argument("name", metavar="NAME")
    get.add_argument("parameter", metavar="PARAM", nargs="?", help="all, if left out")
    get.set_defaults(run=run_get)
    change = commands.add_parser(
        "set", help="change a parameter", epilog=f"parameters:\n{table}", formatter_class=shape
    )
    change.add_argument("name", metavar="NAME")
    change.add_argument("assignment", metavar="PARAM=VALUE", nargs="+")
    change.set_defaults(run=run_set)


def run_get(options: argparse.Namespace) -> int:
    """Print one value alone, or all as PARAM=VALUE."""
    directory = directory_of(options.name)
    if options.parameter:
        find_parameter(options.parameter)
        print(read_file(directory / options.parameter).strip())
        return 0
    for parameter in PARAMETERS:
        print(f"{parameter.name}={read_file(directory / parameter.name).strip()}")
    return 0


def run_set(options: argparse.Namespace) -> int:
    """Set each PARAM=VALUE in order; all names are checked before the first is set."""
    directory = directory_of(options.name)
    pairs = []
    for assignment in options.assignment:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise InvalidArgument(f"'{assignment}' is not PARAM=VALUE")
        pairs.append((find_parameter(name), value))
    for parameter, value in pairs:
        set_value(directory / parameter.name, value)
    return 0


def set_value(path: Path, value: str) -> None:
    """Write ``value`` to the parameter file; raises `InvalidArgument` or `HostError`."""
    try:
        write_file(path, value)
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            values = find_parameter(path.name).values
            raise InvalidArgument(f"'{value}' is not valid for {path.name} ({values})") from exc
        raise HostError(f"cannot set {path.name}: {exc.strerror}") from exc


def directory_of(name: str) -> Path:
    """Where the parameters of the device ``name`` are."""
    return Path(Runtime(name).mountpoint()) / "params"
