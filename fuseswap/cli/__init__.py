"""The ``fuseswap`` command: one module a subcommand, dispatched here.

Exit codes: 0; 1 usage; 2 the system (not root, no /dev/fuse, no memory); 32 mount
failure.  Every failure is one line on standard error that says what to do.
"""

from __future__ import annotations

import argparse
import io
import os
import select
import sys
from collections.abc import Sequence

from fuseswap import __version__
from fuseswap.cli import (
    backend,
    bring_in,
    check,
    config,
    demo,
    down,
    explain,
    install_host,
    mount,
    out,
    plugins,
    ps,
    recompress,
    restart,
    scrub,
    shrink,
    status,
    striped,
    tier,
    top,
    up,
    writeback,
)
from fuseswap.cli import get as get_command
from fuseswap.cli import run as run_command
from fuseswap.cli import set as set_command
from fuseswap.cli.configured import with_section
from fuseswap.cli.output import visible_output
from fuseswap.daemon.bring_up import MountFailed
from fuseswap.errors import FuseswapError, InvalidArgument
from fuseswap.linux.visible import one_line

EXIT_USAGE = 1
EXIT_SYSTEM = 2
EXIT_MOUNT = 32

_COMMANDS = (
    up,
    down,
    restart,
    status,
    top,
    ps,
    out,
    bring_in,
    explain,
    get_command,
    set_command,
    tier,
    writeback,
    recompress,
    scrub,
    backend,
    shrink,
    config,
    check,
    demo,
    run_command,
    plugins,
    install_host,
    mount,
)


class _Parser(argparse.ArgumentParser):
    """argparse with one line of complaint and our exit code."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(EXIT_USAGE, f"{self.prog}: {_complaint(message)} (see: {self.prog} --help)\n")


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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path is printed as it is
    with visible_output():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        try:
            code = _dispatch(sys.argv[1:] if arguments is None else arguments)
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except InvalidArgument as exc:
        return _complain(str(exc), EXIT_USAGE)
    except MountFailed as exc:
        return _complain(str(exc), EXIT_MOUNT)
    except FuseswapError as exc:
        return _complain(str(exc), EXIT_SYSTEM)
    except OSError as exc:
        if isinstance(exc, BrokenPipeError) and _has_lost_its_reader():
            return 0
        return _complain(_reason(exc), EXIT_SYSTEM)
    except KeyboardInterrupt:
        return 130
    return code


def _dispatch(arguments: Sequence[str]) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command == "up" and options.name:
        options = parser.parse_args(with_section(arguments, options.name))
    options.parser, options.act = parser, striped.run
    return striped.run(options)


def _has_lost_its_reader() -> bool:
    """Whether what reads standard output has seen enough (`| head`); then it goes nowhere."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _reason(exc: OSError) -> str:
    path = f"{os.fsdecode(exc.filename)}: " if isinstance(exc.filename, (str, bytes)) else ""
    return f"{path}{exc.strerror or exc}"


def _complain(text: str, code: int) -> int:
    print(f"fuseswap: {_complaint(text)}", file=sys.stderr)
    return code


def _complaint(text: str) -> str:
    """One line; bytes of a path that are no text are shown, too."""
    return one_line(text).encode(errors="backslashreplace").decode()
