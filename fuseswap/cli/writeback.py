"""``fuseswap writeback``: move cold pages to the backing file now, with progress."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

from fuseswap import config
from fuseswap.cli.parameters import set_value
from fuseswap.errors import HostError
from fuseswap.host.reading import read_file
from fuseswap.host.runtime import Runtime

_LOOK_EVERY_S = 0.2
_STUCK_AFTER_S = 10.0
_PROGRESS = re.compile(r"(\d+) of (\d+)")


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("writeback", help="write cold pages back now")
    parser.add_argument("name", nargs="?", default=config.DEFAULT_NAME, help="default swap0")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--idle", type=int, metavar="SECONDS", help="segments sealed longer ago than this"
    )
    which.add_argument("--incompressible", action="store_true", help="pages that do not compress")
    which.add_argument("--all", action="store_true", help="everything (default)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask for it, then show how far it is until it is done."""
    if options.idle is not None:
        wanted = f"idle={options.idle}"
    else:
        wanted = "incompressible" if options.incompressible else "all"
    settings = Runtime(options.name).config()
    if not settings["backing"]:
        raise HostError(f"{options.name} has no backing file; see: fuseswap up --backing PATH")
    path = Path(settings["mountpoint"]) / "params" / "writeback"
    set_value(path, wanted)
    left, changed = -1, time.monotonic()
    while left:
        state = read_file(path).strip()
        print(f"\r{state}   ", end="", flush=True, file=sys.stderr)
        progress = _PROGRESS.search(state)
        now = int(progress[2]) - int(progress[1]) if progress else 0
        if now != left:
            left, changed = now, time.monotonic()
        elif time.monotonic() - changed > _STUCK_AFTER_S:
            print(file=sys.stderr)
            raise HostError(
                "writeback does not go on: is the backing file full, or the budget spent?"
            )
        time.sleep(_LOOK_EVERY_S if left else 0)
    print(file=sys.stderr)
    return 0
