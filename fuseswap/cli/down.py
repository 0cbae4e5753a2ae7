"""``fuseswap down``: swapoff, detach, unmount."""

from __future__ import annotations

import argparse
from typing import Any

from fuseswap import config, lifecycle
from fuseswap.host import sysctl
from fuseswap.host.runtime import Runtime, all_devices, runtime_root


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("down", help="swapoff, detach, unmount")
    parser.add_argument("name", nargs="?", default=config.DEFAULT_NAME, help="default swap0")
    parser.add_argument("--all", action="store_true", help="every device")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Take one device down, or all of them."""
    runtimes = all_devices() if options.all else [Runtime(options.name)]
    for runtime in runtimes:
        try:
            with runtime.lock():
                lifecycle.down(runtime)
        finally:  # also where it had ended by itself
            alive = {device.name for device in all_devices()}
            sysctl.Sysctl(runtime_root()).restore(alive)
        print(f"{runtime.name} is down")
    return 0
