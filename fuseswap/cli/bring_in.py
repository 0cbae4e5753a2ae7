"""``fuseswap in``: bring processes back from swap, before they need it.

A page at a time costs a fault each, in the middle of their work.  So it is done at once, and only
while there is memory: ``--when-free`` says how much is to be left, and waits for it.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from fuseswap.cli.targets import add_targets, in_swap_bytes, targets
from fuseswap.errors import HostError
from fuseswap.linux.advise import bring_back
from fuseswap.linux.process import command_of
from fuseswap.linux.swap_area import available_bytes, memory_bytes
from fuseswap.sizes import format_size, parse_size

_LOOK_EVERY_S = 1.0
_LEFT_SHARE = 16  # of memory, where the user says nothing


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "in",
        help="bring processes back from swap",
        description="Bring the memory of processes back from swap, while there is room.",
    )
    add_targets(parser)
    parser.add_argument(
        "--when-free",
        metavar="SIZE",
        help="wait until so much memory is available, and leave that much",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Bring them back, with progress, and say how much it was."""
    least = memory_bytes() // _LEFT_SHARE
    waits = options.when_free is not None
    if waits:
        least = parse_size(options.when_free, memory_bytes())
    pids = targets(options)
    before, started = in_swap_bytes(pids), time.monotonic()
    for pid in pids:
        if not _bring(pid, least, waits):
            break
    left = in_swap_bytes(pids)
    took_s = time.monotonic() - started
    print(f"{format_size(max(0, before - left))} came back in {took_s:.1f} s", end="")
    print(f"; {format_size(left)} stay in swap" if left else "")
    return 0


def _bring(pid: int, least: int, waits: bool) -> bool:
    """Whether there is memory for more."""
    draws = sys.stderr.isatty()
    pages = 0
    try:
        if not _has_room(least, waits):
            return False
        for count in bring_back(pid):
            pages += count
            if draws:
                print(f"\r{pid} ({command_of(pid)}): {pages} pages   ", end="", file=sys.stderr)
            if not _has_room(least, waits):
                return False
    except PermissionError:
        raise HostError(f"process {pid} may not be brought back by you; run it as root") from None
    finally:
        if draws and pages:
            print(file=sys.stderr)
    return True


def _has_room(least: int, waits: bool) -> bool:
    while available_bytes() < least:
        if not waits:
            print(
                f"fuseswap: less than {format_size(least)} of memory would be left "
                "(see: --when-free)",
                file=sys.stderr,
            )
            return False
        time.sleep(_LOOK_EVERY_S)
    return True
