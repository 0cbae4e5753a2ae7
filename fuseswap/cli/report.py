"""``fuseswap report``: a page of HTML that shows where memory goes, and where pages are.

Reads what `status` and `ps` read, so the worker has no more to do than for these.  drawsvg draws,
and is imported here alone, when there is something to draw.
"""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from fuseswap.cli.status import NO_DEVICES
from fuseswap.cli.watching import is_terminal
from fuseswap.daemon.stripe_set import grouped
from fuseswap.errors import HostError, InvalidArgument

_DRAWS = "drawsvg"
_WANTED = "drawsvg>=2.4"


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "report",
        help="pictures of devices, as a page of HTML",
        description="Write one page of HTML that shows where memory goes, a map of the swapfile, "
        "sizes and times. It loads nothing from elsewhere.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="one device; all, if left out")
    parser.add_argument("--output", metavar="FILE", help="write it there, not to standard output")
    parser.add_argument(
        "--record", metavar="FILE", help="show the last hour, of `fuseswap top --record FILE`"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Gather everything, draw it, and then write it."""
    if options.output is None and is_terminal(sys.stdout):
        raise InvalidArgument("it is HTML: fuseswap report > report.html, or --output FILE")
    groups = grouped(options.name)
    if not groups:
        raise HostError(NO_DEVICES)
    page = _page()
    from fuseswap.cli.recording import read_recording
    from fuseswap.cli.report_facts import gather

    moments = read_recording(options.record) if options.record is not None else None
    found = [gather(*group) for group in groups]
    _write(page(found, moments, os.uname().nodename), options.output)
    return 0


def _page() -> Callable[..., str]:
    """What draws.  Raises `HostError` where that is not installed."""
    try:
        import_module(_DRAWS)
    except ImportError:
        raise HostError(f"{_DRAWS} is not installed; run: {_how_to_install()}") from None
    from fuseswap.cli.report_page import page

    return page


def _how_to_install() -> str:
    """Where the fuseswap that runs finds it; a Debian package has no pip of its own."""
    pip = Path(sys.prefix) / "bin" / "pip"
    if pip.exists():
        return f"{pip} install '{_WANTED}'"
    return f"pip install --target {sysconfig.get_path('purelib')} '{_WANTED}'"


def _write(text: str, path: str | None) -> None:
    if path is None:
        sys.stdout.write(text)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise HostError(f"cannot write {path}: {exc.strerror}") from exc
