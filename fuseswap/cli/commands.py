"""All subcommands, and the one place where their failures become a line and an exit code."""

from __future__ import annotations

import argparse
import io
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
from fuseswap.cli.output import OutputFailed, visible_output
from fuseswap.cli.parser import EXIT_USAGE, Parser, add_commands, complaint
from fuseswap.daemon.bring_up import MountFailed
from fuseswap.errors import FuseswapError, InvalidArgument, in_words
from fuseswap.linux import ending

EXIT_SYSTEM = 2
EXIT_MOUNT = 32
EXIT_SIGNAL = 128

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


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = Parser(prog="fuseswap", description="Compressed swap in user space.")
    parser.add_argument("-V", "--version", action="version", version=f"fuseswap {__version__}")
    commands = add_commands(parser, "COMMAND")
    for module in _COMMANDS:
        module.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path is printed as it is
    with visible_output():
        try:
            with ending.raised():
                return _run(arguments)
        except KeyboardInterrupt as exc:
            for note in getattr(exc, "__notes__", ()):
                _complain(note)
            return EXIT_SIGNAL + ending.number_of(exc)


def _run(arguments: Sequence[str] | None) -> int:
    failure: FuseswapError | OSError
    try:
        try:
            code = _dispatch(sys.argv[1:] if arguments is None else arguments)
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except OutputFailed as exc:
        if exc.is_closed:
            return 0
        failure, code = exc, EXIT_SYSTEM
    except InvalidArgument as exc:
        failure, code = exc, EXIT_USAGE
    except MountFailed as exc:
        failure, code = exc, EXIT_MOUNT
    except (FuseswapError, OSError) as exc:
        failure, code = exc, EXIT_SYSTEM
    else:
        return code
    _complain("; ".join([in_words(failure), *getattr(failure, "__notes__", ())]))
    return code


def _dispatch(arguments: Sequence[str]) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command == "up" and options.name:
        options = parser.parse_args(with_section(arguments, options.name))
    options.parser, options.act = parser, striped.run
    return striped.run(options)


def _complain(text: str) -> None:
    print(f"fuseswap: {complaint(text)}", file=sys.stderr)
