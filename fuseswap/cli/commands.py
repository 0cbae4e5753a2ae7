"""All subcommands, and the one place where their failures become a line and an exit code."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from importlib import import_module

from fuseswap import __version__
from fuseswap.cli import sets
from fuseswap.cli.output import OutputFailed, visible_output
from fuseswap.cli.parser import EXIT_USAGE, Parser, add_commands, complaint
from fuseswap.errors import FuseswapError, InvalidArgument, MountFailed, in_words
from fuseswap.linux import ending, protect

EXIT_SYSTEM = 2
EXIT_MOUNT = 32
EXIT_SIGNAL = 128

# In the order of ``--help``; where the module has another name, that.
_COMMANDS = {
    "up": "up",
    "down": "down",
    "restart": "restart",
    "status": "status",
    "top": "top",
    "ps": "ps",
    "report": "report",
    "out": "out",
    "in": "bring_in",
    "explain": "explain",
    "get": "get",
    "set": "set",
    "tier": "tier",
    "writeback": "writeback",
    "recompress": "recompress",
    "scrub": "scrub",
    "backend": "backend",
    "shrink": "shrink",
    "trace": "trace",
    "simulate": "simulate",
    "config": "config",
    "check": "check",
    "estimate": "estimate",
    "demo": "demo",
    "run": "run",
    "plugins": "plugins",
    "install-host": "install_host",
    "mount": "mount",
}


# Without them memory stays short: a device gets its supervisor back, or gives all of it back.
_SPARED = ("up", "down")


def build_parser(names: Iterable[str] = _COMMANDS) -> argparse.ArgumentParser:
    """The whole command line, or that of the commands ``names``: a module is imported for each."""
    parser = Parser(prog="fuseswap", description="Compressed swap in user space.")
    parser.add_argument("-V", "--version", action="version", version=f"fuseswap {__version__}")
    commands = add_commands(parser, "COMMAND")
    for name in names:
        import_module(f"fuseswap.cli.{_COMMANDS[name]}").add_to(commands)
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
    options = _parse(arguments)
    if options.command == "up" and options.name:
        from fuseswap.cli.configured import with_section

        options = _parse(with_section(arguments, options.name))
    options.parse, options.act = _parse, sets.run
    with protect.spared() if options.command in _SPARED else nullcontext():
        return sets.run(options)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options in ``arguments``; a command that is named there is imported alone."""
    named = arguments[:1] if arguments and arguments[0] in _COMMANDS else _COMMANDS
    return build_parser(named).parse_args(arguments)


def _complain(text: str) -> None:
    print(f"fuseswap: {complaint(text)}", file=sys.stderr)
