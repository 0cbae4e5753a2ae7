"""The ``fuseswap`` command: one module a subcommand, dispatched here.

Exit codes: 0; 1 usage; 2 the system (not root, no /dev/fuse, no memory); 32 mount
failure.  Every failure is one line on standard error that says what to do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fuseswap import __version__
from fuseswap.bring_up import MountFailed
from fuseswap.cli import (
    check,
    demo,
    explain,
    mounting,
    parameters,
    recompress,
    restart,
    status,
    top,
    updown,
    writeback,
)
from fuseswap.errors import FuseswapError, InvalidArgument

EXIT_USAGE = 1
EXIT_SYSTEM = 2
EXIT_MOUNT = 32

_COMMANDS = (
    updown,
    restart,
    status,
    top,
    explain,
    parameters,
    writeback,
    recompress,
    check,
    demo,
    mounting,
)


class _Parser(argparse.ArgumentParser):
    """argparse with one line of complaint and our exit code."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see: {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser(prog="fuseswap", description="Compressed swap in user space.")
    parser.add_argument("--version", action="version", version=f"fuseswap {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except InvalidArgument as exc:
        return _complain(exc, EXIT_USAGE)
    except MountFailed as exc:
        return _complain(exc, EXIT_MOUNT)
    except (FuseswapError, OSError) as exc:
        return _complain(exc, EXIT_SYSTEM)
    except KeyboardInterrupt:
        return 130
    return code


def _complain(exc: Exception, code: int) -> int:
    print(f"fuseswap: {exc}", file=sys.stderr)
    return code
