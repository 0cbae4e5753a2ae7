"""``fuseswap restart``: hand over to a freshly started worker, or try again where degraded.

Takes no lock: a `down` that waits for a degraded device holds it, and this is its way out.
"""

from __future__ import annotations

import argparse
from typing import Any

from fuseswap import config, lifecycle
from fuseswap.host.runtime import Runtime


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "restart",
        help="replace the worker, without a loss",
        description="Replace the worker of a device by a new one, without a loss.",
    )
    parser.add_argument("name", nargs="?", default=config.DEFAULT_NAME, help="default swap0")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what was done, with the pause in milliseconds."""
    print(f"{options.name}: {lifecycle.restart(Runtime(options.name))}")
    return 0
