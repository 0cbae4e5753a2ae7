"""What the commands of this package share: options, one at a time, tidy ends.

Exit codes: 1 usage, 2 something failed; each with one line on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from fuseswap.errors import FuseswapError, HostError, InvalidArgument
from fuseswap.linux import private_files
from fuseswap.sizes import parse_size

# Of root alone: whoever may open it can hold it.
LOCK = Path("/run/fuseswap-bench.lock")


class Parser(argparse.ArgumentParser):
    """A usage error is one line and exit code 1."""

    def error(self, message: str) -> NoReturn:
        """Say it and end; ``prog`` is ``scripts/NAME``."""
        name = self.prog.partition("/")[2]
        print(f"{name}: {message} (see: {self.prog} --help)", file=sys.stderr)
        sys.exit(1)


def positive(text: str) -> int:
    """An option that is a number above 0."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def seconds(text: str) -> float:
    """An option that is a time."""
    with contextlib.suppress(ValueError):
        value = float(text)
        if 0 < value < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds")


def size(text: str) -> int:
    """An option that is a size, such as ``64M``; bytes."""
    try:
        return parse_size(text)
    except InvalidArgument as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Two benchmarks at once would measure each other.  Raises `HostError`."""
    with open(private_files.open_file(LOCK, os.O_WRONLY), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError("another benchmark is running; wait for it") from None
        yield


def run_as_root(name: str, runtime_dir: str, body: Callable[[], int]) -> int:
    """The exit code of ``body``, run alone; a signal or an error tears everything down first."""
    if os.geteuid() != 0:
        print(f"{name}: mounts and swap need root; try: sudo scripts/{name}", file=sys.stderr)
        return 2
    os.environ.setdefault("FUSESWAP_RUNTIME_DIR", runtime_dir)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _on_signal)
    try:
        with alone():
            return body()
    except (FuseswapError, OSError) as exc:
        for cause in _chain(exc):
            print(f"{name}: {cause}", file=sys.stderr)
        return 2


def _on_signal(number: int, _frame: object) -> None:
    sys.exit(128 + number)  # an exception: everything is torn down


def _chain(exc: BaseException) -> list[BaseException]:
    """What went wrong first, and then what could not be torn down after it."""
    before = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return [*(_chain(before) if isinstance(before, FuseswapError) else ()), exc]
