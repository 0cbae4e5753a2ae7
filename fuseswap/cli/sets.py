"""Whether a command is for a set of stripes.  ``striped.py`` runs those that are.

That is imported for them alone: it needs what all of its commands do.
"""

from __future__ import annotations

import argparse

from fuseswap.daemon.runtime_dir import DEFAULT_NAME, Runtime, all_devices
from fuseswap.daemon.stripe_set import find_set

_KNOW_SETS = frozenset(
    {
        *("up", "down", "restart", "get", "set", "explain", "tier", "backend"),
        *("writeback", "recompress", "scrub", "shrink"),
    }
)


def run(options: argparse.Namespace) -> int:
    """Run the command that was asked for, on a device or on a set."""
    if options.command in _KNOW_SETS and _is_for_set(options):
        from fuseswap.cli import striped

        return striped.run(options)
    code: int = options.run(options)
    return code


def _is_for_set(options: argparse.Namespace) -> bool:
    """Whether it names a set or a stripe, or makes a set.  Raises `InvalidArgument`."""
    if options.command in ("up", "down", "restart") and options.all:
        return options.command == "down" and any(one.set_name for one in all_devices())
    if options.command == "up" and options.stripes is not None:
        return True
    name = getattr(options, "device", getattr(options, "name", None))
    if name is None and options.command in ("down", "restart"):
        name = DEFAULT_NAME
    if name is None:  # an action is missing
        return False
    return Runtime(name).set_name is not None or find_set(name) is not None
