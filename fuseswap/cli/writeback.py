"""``fuseswap writeback``: move cold pages to the backing file now, with progress."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from fuseswap import config
from fuseswap.cli.parameters import set_value
from fuseswap.host.reading import read_file
from fuseswap.host.runtime import Runtime

_LOOK_EVERY_S = 0.2


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
    path = Path(Runtime(options.name).config()["mountpoint"]) / "params" / "writeback"
    set_value(path, wanted)
    while True:
        state = read_file(path).strip()
        print(f"\r{state}   ", end="", flush=True, file=sys.stderr)
        done, _, rest = state.rpartition(" of ")
        if not rest or done.split()[-1] == rest.split()[0]:
            break
        time.sleep(_LOOK_EVERY_S)
    print(file=sys.stderr)
    return 0
