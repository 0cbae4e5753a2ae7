"""``fuseswap down``: swapoff, detach, unmount."""

from __future__ import annotations

import argparse
from typing import Any

from fuseswap.daemon import config, take_down
from fuseswap.daemon.processes import wake
from fuseswap.daemon.runtime_dir import Runtime, all_devices, runtime_root
from fuseswap.errors import InvalidArgument
from fuseswap.linux.sysctl import Sysctl
from fuseswap.linux.zswap import Zswap


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "down",
        help="swapoff, detach, unmount",
        description="Disable the swap, detach, unmount; refused where memory has no room for it.",
    )
    parser.add_argument("name", nargs="?", help=f"default {config.DEFAULT_NAME}")
    parser.add_argument("--all", action="store_true", help="every device")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Take one device down, or all of them."""
    if options.all and options.name:
        raise InvalidArgument("'down' takes a name or --all, not both")
    runtimes = all_devices() if options.all else [Runtime(options.name or config.DEFAULT_NAME)]
    try:
        for runtime in runtimes:
            wake(runtime)  # an orphan that notes itself has the lock, and may have been stopped
            with runtime.lock():
                take_down.down(runtime)
            print(f"{runtime.name} is down")
    finally:  # also where it had ended by itself, or a command was killed half-way
        put_settings_back()
    return 0


def put_settings_back() -> None:
    """Settings of the machine that no device wants any more."""
    alive = {device.name for device in all_devices()}
    for settings in (Sysctl(runtime_root()), Zswap(runtime_root())):
        settings.restore(alive)
