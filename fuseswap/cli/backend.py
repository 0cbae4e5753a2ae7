"""``fuseswap backend``: who is asked to keep a page, in which order."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from fuseswap.cli.output import print_json
from fuseswap.cli.parameter_files import directory_of, set_value
from fuseswap.cli.parser import add_commands
from fuseswap.cli.progress import order
from fuseswap.daemon import backend_memory
from fuseswap.daemon.runtime_dir import DEFAULT_NAME, Runtime
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux.ending import Undo
from fuseswap.linux.timed_file import read_file
from fuseswap.sizes import format_size, parse_size
from fuseswap.spelling import is_whole, or_rather

_COLUMNS = ("backend", "kind", "state", "size", "pages")


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "backend",
        help="who keeps pages: list, add, remove",
        description="Show or change the backends that are asked to keep a page, in order.",
    )
    actions = add_commands(parser, "ACTION")
    listing = actions.add_parser("list", help="show them, in the order they are asked")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(run=run_list)
    adding = actions.add_parser("add", help="ask one more, while the swap is on")
    adding.add_argument("backend", metavar="BACKEND", help="its name; raw0, where `up` had --raw")
    adding.add_argument("--kind", default="raw", help="raw (default), or one of a plugin")
    adding.add_argument("--size", metavar="SIZE", help="of its memory, taken as it is used")
    adding.add_argument("--file", metavar="PATH", help="a file on persistent memory (DAX) instead")
    adding.add_argument(
        "--order", default="first", help="first (default), last, or how many are asked before it"
    )
    adding.set_defaults(run=run_add)
    removing = actions.add_parser("remove", help="have the others take its pages, then drop it")
    removing.add_argument("backend", metavar="BACKEND")
    removing.set_defaults(run=run_remove)
    for one in (listing, adding, removing):
        add_device(one)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Which device it is about."""
    parser.add_argument(
        "-d", "--device", default=DEFAULT_NAME, metavar="NAME", help="default swap0"
    )


def backends_of(device: str) -> list[dict[str, str]]:
    """A dict for each backend of ``device``, of what its line in ``params/backends`` says."""
    lines = read_file(directory_of(device) / "backends").splitlines()
    rows = [line.split() for line in lines if " state=" in line]
    return [
        {"backend": name, **dict(field.split("=", 1) for field in fields)} for name, *fields in rows
    ]


def run_list(options: argparse.Namespace) -> int:
    """Print a table, or the JSON."""
    found = backends_of(options.device)
    if options.json:
        print_json(found)
        return 0
    rows = [_COLUMNS, *(tuple(_cell(row, column) for column in _COLUMNS) for row in found)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


def _cell(row: dict[str, str], column: str) -> str:
    text = row.get(column, "-")
    return format_size(int(text)) if column == "size" and text != "-" else text


def run_add(options: argparse.Namespace) -> int:
    """Register it; from the next store on it is asked."""
    name, found = options.backend, backends_of(options.device)
    state = next((row["state"] for row in found if row["backend"] == name), None)
    if state not in (None, "spare"):
        raise InvalidArgument(f"{options.device} has a backend '{name}' already")
    if state is None and options.size is None:
        raise InvalidArgument(f"{options.device} has no memory for a backend '{name}': --size SIZE")
    if state == "spare" and options.size is not None:
        raise InvalidArgument(f"the memory for backend '{name}' is there: without --size")
    chain = [row for row in found if row["state"] in ("active", "draining")]
    place = options.order
    if place not in ("first", "last") and not (is_whole(place) and int(place) <= len(chain)):
        raise InvalidArgument(f"--order {place} is none of first, last, 0 to {len(chain)}")
    runtime = Runtime(options.device)
    with runtime.lock(), Undo() as undo:
        if state is None:
            undo.add(partial(backend_memory.detach, runtime, name))
            backend_memory.attach(runtime, name, parse_size(options.size), options.file)
        wanted = f"add={name} kind={options.kind} order={place}"
        set_value(directory_of(options.device) / "backends", wanted)
    return 0


def run_remove(options: argparse.Namespace) -> int:
    """Show how far it is, until the others have all of its pages."""
    row = find(options.device, options.backend)
    if row["kind"] == row["backend"]:
        raise InvalidArgument(f"'{options.backend}' belongs to the device: it stays until `down`")
    move(options.device, options.backend, f"remove={options.backend}")
    runtime = Runtime(options.device)
    with runtime.lock():
        backend_memory.detach(runtime, options.backend)
    return 0


def find(device: str, name: str) -> dict[str, str]:
    """A backend that is asked; raises `InvalidArgument`, naming those there are."""
    active = [row for row in backends_of(device) if row["state"] in ("active", "draining")]
    for row in active:
        if row["backend"] == name:
            return row
    known = [row["backend"] for row in active]
    raise InvalidArgument(f"{device} has no backend '{name}'{or_rather(name, known)}")


def move(device: str, name: str, wanted: str) -> None:
    """Order that pages of ``name`` move, and return once they have; raises `HostError`."""
    what = wanted.split()[0]

    def progress(text: str) -> str:
        """The line of this order; raises `HostError` where it has failed."""
        line = next((line for line in text.splitlines() if line.startswith(f"{what}: ")), "")
        _, failed, why = line.partition(": failed: ")
        if failed:
            raise HostError(f"'{name}' stays, and takes pages again: {why}")
        return line

    order(device, "backends", wanted, f"the pages of '{name}' don't move on", pick=progress)
