"""Show something again and again, until the user ends it: for `top`, and `status --watch`.

On a terminal it is drawn on all of it; elsewhere one block follows the other.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from fuseswap.errors import InvalidArgument
from fuseswap.sizes import decimal_or_nan

if TYPE_CHECKING:
    from fuseswap.cli.terminal import Terminal

DEFAULT_INTERVAL_S = 2.0
_LEAST_INTERVAL_S = 0.1
_GREATEST_INTERVAL_S = 86400.0


def is_terminal(file: TextIO | None) -> bool:
    """Whether a person sees what is written there."""
    return file is not None and file.isatty()


def is_drawable() -> bool:
    """Whether a person sees it, and has keys."""
    return is_terminal(sys.stdin) and is_terminal(sys.stdout)


def interval(text: str | None) -> float:
    """Seconds that ``--interval`` asks for; raises `InvalidArgument`."""
    if text is None:
        return DEFAULT_INTERVAL_S
    seconds = decimal_or_nan(text)
    if not _LEAST_INTERVAL_S <= seconds <= _GREATEST_INTERVAL_S:
        raise InvalidArgument(
            f"'{text}' is not valid for --interval "
            f"({_LEAST_INTERVAL_S:g} to {_GREATEST_INTERVAL_S:g} seconds)"
        )
    return seconds


def ticks(interval_s: float) -> Iterator[float]:
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


def wait(fds: Sequence[int], timeout_s: float) -> None:
    """Until one of ``fds`` is readable, or the time is over."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    poll.poll(max(0.0, timeout_s) * 1000)  # a negative one would be for ever


def draw(show: Callable[[Terminal], None], interval_s: float) -> None:
    """Have it ``show`` itself on the terminal every ``interval_s``, until the user ends it."""
    from fuseswap.cli.terminal import Ended, Terminal  # curses: for no other command

    try:
        with Terminal() as terminal:
            for delay_s in ticks(interval_s):
                show(terminal)
                terminal.wait((), delay_s)
    except Ended as exc:
        if exc.by is signal.SIGINT:
            raise KeyboardInterrupt from None
        if exc.by is not None:
            os.kill(os.getpid(), exc.by)  # the terminal is as it was: end as everyone would


def watch(look: Callable[[], list[str]], interval_s: float) -> None:
    """Show the lines of ``look``."""
    if is_drawable():

        def show(terminal: Terminal) -> None:
            lines = look()
            terminal.draw(lambda width: lines)

        draw(show, interval_s)
        return
    for delay_s in ticks(interval_s):
        print(*look(), "", sep="\n", flush=True)
        wait((), delay_s)
