"""``fuseswap plugins``: what other packages bring, and whether it loads."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from fuseswap.cli.output import print_json
from fuseswap.errors import HostError
from fuseswap.linux.visible import one_line
from fuseswap.plugins.entry_points import Plugin, find


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "plugins",
        help="list codecs, backends, tiers and policies of other packages",
        description="List codecs, backends, tiers and policies that other packages bring, with "
        "their package and its version, and say why one does not load.",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load each, and print a line of it."""
    found = [(plugin, why_not(plugin)) for plugin in find()]
    if options.json:
        rows = [{**plugin._asdict(), "loads": not why, "error": why} for plugin, why in found]
        print_json(rows)
        return 0
    lines: list[tuple[str, ...]] = [("KIND", "NAME", "PACKAGE", "VERSION", "LOADS")]
    for plugin, why in found:
        package = (plugin.kind, plugin.name, plugin.package, plugin.version)
        lines.append(tuple(map(one_line, (*package, f"no: {why}" if why else "yes"))))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for *cells, loads in lines if found else ():
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        print("  ".join((*padded, loads)))
    return 0


def why_not(plugin: Plugin) -> str:
    """One line where ``plugin`` does not load, "" where it does."""
    try:
        _load_of(plugin.kind)(plugin)
    except HostError as exc:
        return str(exc).partition("does not load: ")[2]
    return ""


def _load_of(kind: str) -> Callable[[Plugin], object]:
    """As a worker does it, without making more than it makes."""
    if kind not in ("codec", "policy"):
        return Plugin.load
    from fuseswap.filesystem.plugged import guarded_codec, guarded_policy  # with our own codecs

    return guarded_codec if kind == "codec" else guarded_policy
