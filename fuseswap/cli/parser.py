"""The command line's parser: complaints of one line, in our words, and our exit code.

Every command and every action below one is made with it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from fuseswap.errors import InvalidArgument
from fuseswap.linux.visible import one_line
from fuseswap.sizes import parse_whole
from fuseswap.spelling import closest

EXIT_USAGE = 1


class Parser(argparse.ArgumentParser):
    """argparse with one line of complaint, which names what was meant, and our exit code."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 1."""
        self.exit(EXIT_USAGE, f"{self.prog}: {complaint(message)} (see: {self.prog} --help)\n")

    def parse_known_args(  # type: ignore[override]  # its overloads say the same
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """What a command does not know is its own mistake, and not that of `fuseswap`."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0].partition("=")[0]
            meant = closest(word, self._option_string_actions) if word[:1] == "-" else None
            self.error(f"{unknown[0]!r} is unknown here{_or(meant)}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            meant = _or(closest(str(value), known)) or f"; there are: {', '.join(known)}"
            raise argparse.ArgumentError(action, f"there is no '{value}'{meant}")


def _or(meant: str | None) -> str:
    return f"; did you mean '{meant}'?" if meant else ""


def add_commands(parser: argparse.ArgumentParser, what: str) -> Any:
    """Subcommands of ``parser``; without one it lists them.  ``what`` one is called: COMMAND."""
    commands = parser.add_subparsers(dest=what.lower(), metavar=what)

    def complain(options: argparse.Namespace) -> int:
        names = ", ".join(commands.choices)
        parser.error(f"which {what.lower()}? {names}")

    parser.set_defaults(run=complain)
    return commands


def whole(text: str) -> int:
    """``type`` of an option: a whole number."""
    try:
        return parse_whole(text)
    except InvalidArgument as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def some(text: str) -> str:
    """``type`` of an option whose value may not be empty, as a variable of a shell may be."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def complaint(text: str) -> str:
    """One line; bytes of a path that are no text are shown, too."""
    return one_line(text).encode(errors="backslashreplace").decode()
