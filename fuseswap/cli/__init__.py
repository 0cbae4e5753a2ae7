"""The ``fuseswap`` command: one module a subcommand, dispatched in ``commands.py``.

    0             done
    1             usage: nothing was changed
    2             the system: not root, no /dev/fuse, no memory, no such device; a bad page
    32            mount failure
    128 + signal  ended by a signal: what was begun is undone

Every failure is one line on standard error that says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

# 1 MB: dataclasses import one for classes without a docstring, and errors the other.
_SELDOM = ("inspect", "traceback")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        from fuseswap.daemon import lean  # before others import what it postpones

        for name in _SELDOM:
            lean.postpone(name)
        from fuseswap.cli import commands  # takes a while, in which Ctrl-C comes, too
    except KeyboardInterrupt:
        return 130
    return commands.main(arguments)
