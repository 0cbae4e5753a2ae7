"""``fuseswap top``: what the devices hold and do, again and again.

On a terminal it draws on all of it; otherwise, and with ``--batch``, ``--count`` or
``--json``, one block or line follows the other.  A first sample that would have nothing to
compare with is not printed then.  With ``--record`` each sample is kept for an hour, too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from fuseswap.cli import top_view, watching
from fuseswap.cli.recording import LEAST_INTERVAL_S, Recording
from fuseswap.cli.sampling import Sampler, Snapshot, Wait
from fuseswap.cli.status import NO_DEVICES
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import InvalidArgument
from fuseswap.linux.protect import lock_memory
from fuseswap.spelling import is_whole

if TYPE_CHECKING:
    from fuseswap.cli.terminal import Terminal


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    columns = "\n".join(f"  {column.name:<10}{column.help}" for column in top_view.COLUMNS)
    parser = commands.add_parser(
        "top",
        help="show what devices do, every two seconds; q ends",
        description="Show what devices hold and do, again and again; q ends.",
        epilog=f"columns:\n{columns}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="one device; all, if left out")
    parser.add_argument("--interval", metavar="SECONDS", help="between two samples (default 2)")
    parser.add_argument("--batch", action="store_true", help="print, do not draw")
    parser.add_argument("--count", metavar="N", help="end after N blocks; implies --batch")
    parser.add_argument("--json", action="store_true", help="an object a line; implies --batch")
    parser.add_argument(
        "--record", metavar="FILE", help="keep the last hour there, for `fuseswap report`"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Draw or print until the user ends it, or ``--count`` is reached."""
    interval_s = watching.interval(options.interval)
    count = _count(options.count)
    printed = options.batch or options.json or count is not None
    with (
        closing(Sampler(options.name, patience_s=interval_s)) as asked,
        _recorded(asked, options.record, interval_s) as sampler,
    ):
        with suppress(OSError):  # then it may wait for the swap it looks at
            lock_memory(populate=False)
        if printed or not watching.is_drawable():
            return _print(sampler, options, interval_s, count)
        return _draw(sampler, options.name, interval_s)


class _Samples(Protocol):
    """What samples; see `Sampler.sample`."""

    def sample(self, wait: Wait) -> Snapshot:
        """The next one."""
        ...


class _Recorded:
    """Has each sample of another noted."""

    def __init__(self, sampler: Sampler, recording: Recording) -> None:
        self._sampler = sampler
        self._recording = recording

    def sample(self, wait: Wait) -> Snapshot:
        """The next one."""
        snapshot = self._sampler.sample(wait)
        self._recording.add(snapshot)
        return snapshot


@contextmanager
def _recorded(sampler: Sampler, path: str | None, interval_s: float) -> Iterator[_Samples]:
    if path is None:
        yield sampler
        return
    if interval_s < LEAST_INTERVAL_S:
        raise InvalidArgument(f"with --record, --interval is {LEAST_INTERVAL_S:g} second or more")
    with closing(Recording(path)) as recording:
        yield _Recorded(sampler, recording)


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not (is_whole(text) and int(text)):
        raise InvalidArgument(f"'{text}' is not valid for --count (1 or more)")
    return int(text)


def _draw(sampler: _Samples, name: str | None, interval_s: float) -> int:
    absent = f"no device '{name}' yet; waiting for it" if name else NO_DEVICES

    def show(terminal: Terminal) -> None:
        snapshot = sampler.sample(terminal.wait)
        terminal.draw(partial(top_view.in_words, snapshot, interval_s, absent))

    watching.draw(show, interval_s)
    return 0


def _print(
    sampler: _Samples, options: argparse.Namespace, interval_s: float, count: int | None
) -> int:
    snapshot = sampler.sample(watching.wait)
    for delay_s in itertools.islice(watching.ticks(interval_s), count):
        if snapshot.devices:
            watching.wait((), delay_s)
            snapshot = sampler.sample(watching.wait)
        if not snapshot.devices and options.name:
            Runtime(options.name).config()  # says that there is none
        if options.json:
            print(json.dumps(top_view.as_object(snapshot)), flush=True)
        else:
            width = shutil.get_terminal_size().columns
            lines = top_view.in_words(snapshot, interval_s, NO_DEVICES, width)
            print(*lines, "", sep="\n", flush=True)
        if not snapshot.devices:
            break
    return 0
