"""``fuseswap down``: swapoff, detach, unmount."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from fuseswap.cli.host_settings import restore_settings
from fuseswap.daemon import take_down
from fuseswap.daemon.processes import wake
from fuseswap.daemon.runtime_dir import DEFAULT_NAME, Runtime, all_devices
from fuseswap.errors import HostError, InvalidArgument, in_words


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "down",
        help="swapoff, detach, unmount",
        description="Disable the swap, detach, unmount; refused where memory has no room for it.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help=f"default {DEFAULT_NAME}")
    parser.add_argument("--all", action="store_true", help="every device")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Take one device down, or all of them: one that stays does not keep the others up."""
    if options.all and options.name is not None:
        raise InvalidArgument("'down' takes a name or --all, not both")
    name = DEFAULT_NAME if options.name is None else options.name
    runtimes = all_devices() if options.all else [Runtime(name)]
    failed: list[str] = []
    try:
        for runtime in runtimes:
            try:
                wake(runtime)  # an orphan that notes itself has the lock, and may be stopped
                with runtime.lock():
                    left = take_down.down(runtime)
            except (HostError, OSError) as exc:
                failed.append(in_words(exc))
            else:
                print(f"{runtime.name} is down")
                for what in left:
                    print(f"note: {what}", file=sys.stderr)
    finally:  # also where it had ended by itself, or a command was killed half-way
        restore_settings()
    if failed:
        raise HostError("; ".join(failed))
    return 0
