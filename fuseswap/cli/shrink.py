"""``fuseswap shrink``: have a backend hold less, now, with progress."""

from __future__ import annotations

import argparse
from typing import Any

from fuseswap.cli.backend import add_device, backends_of, find, move
from fuseswap.cli.parameter_files import directory_of
from fuseswap.cli.progress import order
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux.timed_file import read_file
from fuseswap.sizes import parse_size


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "shrink",
        help="have a backend hold less, now",
        description="Have pages leave a backend until it holds a given size: those of the cache "
        "for its tier, those of others for the backends behind them.",
    )
    parser.add_argument("backend", metavar="BACKEND", help="as `fuseswap backend list` names it")
    parser.add_argument("--to", required=True, metavar="SIZE", help="what it may hold then")
    add_device(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask for it, then show how far it is until it is done."""
    wanted = f"shrink={options.backend} to={parse_size(options.to)}"
    row = find(options.device, options.backend)
    active = [one for one in backends_of(options.device) if one["state"] == "active"]
    if row["kind"] != "cache":
        if active[-1]["backend"] == options.backend:
            raise InvalidArgument(f"no backend is behind '{options.backend}' to have its pages")
        move(options.device, options.backend, wanted)
        return 0
    tiers = read_file(directory_of(options.device) / "tier_params").strip()
    if not tiers and not Runtime(options.device).config().backing:
        raise HostError(f"{options.device} has no tier that the cache could shrink to")
    stuck = "the cache does not shrink on: is the tier full, or the budget spent?"
    order(options.device, "backends", wanted, stuck, watched="writeback")
    return 0
