"""Crash points: lines at which a worker can be told to die, for tests.

A point is a comment at the end of a line, ``# crash point: NAME``.  A worker with
``FUSESWAP_CRASH_POINT=NAME`` or ``NAME:COUNT`` in its environment kills itself (SIGKILL)
just before it runs that line, the COUNT-th time.  Without the variable nothing is
installed, and a marked line costs what any other does.  A compiled core has no lines, so it is
refused there.  Root's have it only where the device
came up with ``--testing`` (``environment.py``).

The supervisor takes the variable from its environment after the first worker.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import fuseswap
from fuseswap.errors import InvalidArgument
from fuseswap.spelling import is_whole

VARIABLE = "FUSESWAP_CRASH_POINT"

_MARKER = re.compile(r"  # crash point: ([a-z-]+)$")

LineTracer = Callable[[FrameType, str, Any], Any]


def find() -> dict[str, tuple[str, int]]:
    """File and line of every point, by name; reads all of the package's source."""
    found = {}
    for path in sorted(Path(fuseswap.__file__).parent.rglob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if marker := _MARKER.search(line):
                found[marker[1]] = (str(path), number)
    return found


def arm(chosen: str) -> None:
    """Die at the point ``chosen`` (``NAME`` or ``NAME:COUNT``; "": never).

    Seen are functions of this thread called from now on.  Raises `InvalidArgument`.
    """
    if not chosen:
        return
    name, _, times = chosen.partition(":")
    points = find()
    if name not in points or not is_whole(times or "1") or times == "0":
        raise InvalidArgument(f"{VARIABLE}={chosen} names no crash point")
    file, line = points[name]
    if list(Path(file).parent.glob(f"{Path(file).stem}.*.so")):
        raise InvalidArgument(
            f"{VARIABLE}={chosen} is in a compiled module, which has no lines: "
            "build with FUSESWAP_CORE=interpreted"
        )
    left = int(times or 1)

    def watch(frame: FrameType, event: str, argument: Any) -> LineTracer:
        nonlocal left
        if event == "line" and frame.f_lineno == line:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return watch

    @functools.cache
    def holds_it(code: CodeType) -> bool:
        return code.co_filename == file and line in {number for *_, number in code.co_lines()}

    sys.settrace(lambda frame, event, argument: watch if holds_it(frame.f_code) else None)
