"""``fuseswap top``: what the devices hold and do, again and again.

On a terminal it draws on all of it; otherwise, and with ``--batch``, ``--count`` or
``--json``, one block or line follows the other.  A first sample that would have nothing to
compare with is not printed then.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any, TextIO

from fuseswap.cli import top_view
from fuseswap.cli.sampling import Sampler
from fuseswap.cli.status import NO_DEVICES
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import InvalidArgument
from fuseswap.linux.protect import lock_memory

DEFAULT_INTERVAL_S = 2.0
_LEAST_INTERVAL_S = 0.1
_GREATEST_INTERVAL_S = 86400.0


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
    parser.add_argument("name", nargs="?", help="one device; all, if left out")
    parser.add_argument("--interval", metavar="SECONDS", help="between two samples (default 2)")
    parser.add_argument("--batch", action="store_true", help="print, do not draw")
    parser.add_argument("--count", metavar="N", help="end after N blocks; implies --batch")
    parser.add_argument("--json", action="store_true", help="an object a line; implies --batch")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Draw or print until the user ends it, or ``--count`` is reached."""
    interval_s = _interval(options.interval)
    count = _count(options.count)
    printed = options.batch or options.json or count is not None
    with closing(Sampler(options.name, patience_s=interval_s)) as sampler:
        with suppress(OSError):  # then it may wait for the swap it looks at
            lock_memory(populate=False)
        if printed or not (_is_terminal(sys.stdin) and _is_terminal(sys.stdout)):
            return _print(sampler, options, interval_s, count)
        return _draw(sampler, options.name, interval_s)


def _is_terminal(file: TextIO | None) -> bool:
    return file is not None and file.isatty()


def _interval(text: str | None) -> float:
    if text is None:
        return DEFAULT_INTERVAL_S
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _LEAST_INTERVAL_S <= seconds <= _GREATEST_INTERVAL_S:
        raise InvalidArgument(
            f"'{text}' is not valid for --interval "
            f"({_LEAST_INTERVAL_S:g} to {_GREATEST_INTERVAL_S:g} seconds)"
        )
    return seconds


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 12 and int(text)):
        raise InvalidArgument(f"'{text}' is not valid for --count (1 or more)")
    return int(text)


def _ticks(interval_s: float) -> Iterator[float]:
    """Seconds to wait before each sample but the first.

    After one that was missed a whole interval: rates of a moment would say nothing.
    """
    due_s = time.monotonic()
    while True:
        now_s = time.monotonic()
        due_s += interval_s
        if due_s < now_s:
            due_s = now_s + interval_s
        yield due_s - now_s


def _draw(sampler: Sampler, name: str | None, interval_s: float) -> int:
    from fuseswap.cli.terminal import Ended, Terminal  # curses: for no other command

    absent = f"no device '{name}' yet; waiting for it" if name else NO_DEVICES
    try:
        with Terminal() as terminal:
            for delay_s in _ticks(interval_s):
                snapshot = sampler.sample(terminal.wait)
                terminal.draw(partial(top_view.in_words, snapshot, interval_s, absent))
                terminal.wait((), delay_s)
    except Ended as exc:
        if exc.by is signal.SIGINT:
            raise KeyboardInterrupt from None
        if exc.by is not None:
            os.kill(os.getpid(), exc.by)  # the terminal is as it was: end as everyone would
    return 0


def _print(
    sampler: Sampler, options: argparse.Namespace, interval_s: float, count: int | None
) -> int:
    snapshot = sampler.sample(_wait)
    for delay_s in itertools.islice(_ticks(interval_s), count):
        if snapshot.devices:
            _wait((), delay_s)
            snapshot = sampler.sample(_wait)
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


def _wait(fds: Sequence[int], timeout_s: float) -> None:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    poll.poll(max(0.0, timeout_s) * 1000)  # a negative one would be for ever
