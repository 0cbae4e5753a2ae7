"""Orders that take a while: give one to a device and show how far it is, until it is done."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable

from fuseswap.cli.parameter_files import directory_of, set_value
from fuseswap.errors import HostError
from fuseswap.linux.timed_file import read_file

LOOK_EVERY_S = 0.2
STUCK_AFTER_S = 10.0
_PROGRESS = re.compile(r"(\d+) of (\d+)")


def order(
    name: str,
    parameter: str,
    wanted: str,
    stuck: str,
    stuck_after_s: float = STUCK_AFTER_S,
    *,
    watched: str = "",
    pick: Callable[[str], str] = str.strip,
) -> None:
    """Set ``parameter`` of the device ``name`` to ``wanted``, and return when that is done.

    The progress is what ``pick`` makes of the text of ``watched``, of ``parameter`` by default.
    Raises `InvalidArgument`, or `HostError`: saying ``stuck`` where nothing has moved for
    ``stuck_after_s``, or that device or worker have gone.
    """
    path = directory_of(name) / parameter
    set_value(path, wanted)
    path = directory_of(name) / (watched or parameter)
    left, before, changed = -1, "", time.monotonic()
    while left:
        try:
            state = pick(read_file(path))
        except OSError as exc:
            print(file=sys.stderr)
            raise HostError(f"{name} has gone away meanwhile: {exc.strerror}") from exc
        progress = _PROGRESS.search(state)
        if progress is None and left > 0:
            print(file=sys.stderr)
            raise HostError(
                f"the worker of {name} was replaced, and orders are forgotten then: give it again"
            )
        print(f"\r{state.partition(chr(10))[0]}   ", end="", flush=True, file=sys.stderr)
        left = int(progress[2]) - int(progress[1]) if progress else 0
        if state != before:
            before, changed = state, time.monotonic()
        elif left and time.monotonic() - changed > stuck_after_s:
            print(file=sys.stderr)
            raise HostError(stuck)
        time.sleep(LOOK_EVERY_S if left else 0)
    print(file=sys.stderr)
