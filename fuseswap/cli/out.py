"""``fuseswap out``: push processes out to swap now, before memory is short.

What they do not use they do not miss.  What they use comes back a page at a time as they touch it,
or all at once with ``fuseswap in``.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from fuseswap.cli.swap_owners import Owner, owners
from fuseswap.cli.targets import add_targets, in_swap_bytes, targets
from fuseswap.daemon.runtime_dir import all_devices
from fuseswap.errors import HostError
from fuseswap.linux import swap_area
from fuseswap.linux.advise import push_out
from fuseswap.linux.process import command_of
from fuseswap.sizes import format_size, parse_size

_LOOK_AGAIN_S = 0.05
_STILL_S = 1.5  # so long no page arrives: the rest will not


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "out",
        help="push processes out to swap now",
        description="Push the memory of processes out to swap now.",
    )
    add_targets(parser)
    parser.add_argument("--max", metavar="SIZE", help="stop once so much more is in swap")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Push, with progress, and say what was gained."""
    limit = None if options.max is None else parse_size(options.max)
    pids = targets(options)
    if not swap_area.areas():
        raise HostError("there is no swap to push to; try: sudo fuseswap up")
    before = in_swap_bytes(pids)
    for pid in pids:
        if not _push(pid, pids, before, limit):
            break
    gained = max(0, in_swap_bytes(pids) - before)
    found = _arrived(pids)
    ours = sum(owner.use.swap_bytes for owner in found)
    taken = sum(owner.use.taken_bytes for owner in found)
    which = f"; fuseswap has {format_size(ours)} of that, in {format_size(taken)}" if ours else ""
    print(f"{format_size(gained)} went out, {format_size(before + gained)} in all{which}")
    return 0


def _arrived(pids: list[int]) -> list[Owner]:
    """Who has what, once all is stored; what stays elsewhere (zswap, the swap cache) does.

    The kernel is done with a page before its swap device has it.
    """
    found, _ = owners(all_devices(), pids)
    on_their_way = _elsewhere(found)
    deadline = time.monotonic() + _STILL_S
    while on_their_way and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_S)
        found, _ = owners(all_devices(), pids)
        left = _elsewhere(found)
        if left < on_their_way:
            deadline = time.monotonic() + _STILL_S
        on_their_way = min(left, on_their_way)
    return found


def _elsewhere(found: list[Owner]) -> int:
    return sum(owner.use.elsewhere for owner in found)


def _push(pid: int, pids: list[int], before: int, limit: int | None) -> bool:
    """Whether there is room for more."""
    draws = sys.stderr.isatty()
    asked = 0
    try:
        for length in push_out(pid):
            asked += length
            gained = in_swap_bytes(pids) - before
            if draws:
                text = f"\r{pid} ({command_of(pid)}): {format_size(max(0, gained))}   "
                print(text, end="", flush=True, file=sys.stderr)
            if limit is not None and gained >= limit:
                return False
    except PermissionError:
        raise HostError(f"process {pid} may not be pushed out by you; run it as root") from None
    finally:
        if draws and asked:
            print(file=sys.stderr)
    return True
