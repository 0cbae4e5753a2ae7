"""The signals that ask a command to end, and what it had begun.

    SIGINT             `KeyboardInterrupt`, as Python has it
    SIGTERM, SIGHUP    `Terminated`, within `raised`: the same, by another number
    any of them        later, within `held`

`Undo` lists the steps that take back an unfinished command, whether an error ended it or a signal.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from fuseswap.errors import FuseswapError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """A signal asks for the end: like Ctrl-C, by its ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def number_of(exc: KeyboardInterrupt) -> int:
    """The signal that it stands for."""
    return exc.number if isinstance(exc, Terminated) else signal.SIGINT


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Terminated`, where they would have ended the process."""
    if not _is_main_thread():
        yield
        return
    ours = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, _raise)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def held(*, dropped: bool = False) -> Iterator[None]:
    """They wait until the block has ended, or are ``dropped``.

    In this process alone: a mask would be inherited by what is started meanwhile.
    """
    if not _is_main_thread():
        yield
        return
    came: list[int] = []  # of each kind: it ends with the block
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = [number for number, old in before.items() if old not in (signal.SIG_IGN, None)]
    try:
        for number in ours:
            signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        if came and not dropped:
            signal.raise_signal(came[0])


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class Undo:
    """Context manager: its steps are done, the last first, where the block does not end well.

    A step is added before what it takes back is begun, since a signal may come at any time.  So it
    looks what there is.  No signal interrupts the steps.  One that fails does not keep the others
    from being taken, and its error is a note of the first.
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []  # a few a command

    def add(self, step: Callable[[], object]) -> None:
        """``step``: to be done where it fails."""
        self._steps.append(step)

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if exc is None:
            return
        with held(dropped=True):
            while self._steps:
                step = self._steps.pop()
                try:
                    step()
                except (FuseswapError, OSError) as failed:
                    exc.add_note(f"not undone: {failed}")
