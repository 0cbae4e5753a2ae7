"""Writes everything back and says how long that took: a process of its own.

    python -m tests.benchmarks.written_back MOUNTPOINT

Prints a JSON object: ``seconds`` from the order to its end, ``units`` of 4096 bytes that went to
tiers, ``pages`` that moved.  It is looked at every 20 ms: each look takes the worker 0.2 ms.

It is a process of its own so that whoever started it can give up on it where a mount hangs.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import counters

_LOOK_S = 0.02
_PROGRESS = re.compile(r"(\d+) of (\d+)")


def write_back(mountpoint: Path) -> dict[str, float]:
    """All of it.  Raises `OSError`."""
    order = mountpoint / "params" / "writeback"
    before = _moved(mountpoint)
    began = time.perf_counter()
    order.write_text("all")
    while not is_over(order.read_text()):
        time.sleep(_LOOK_S)
    seconds = time.perf_counter() - began
    units, pages = (now - then for now, then in zip(_moved(mountpoint), before, strict=True))
    return {"seconds": seconds, "units": units, "pages": pages}


def is_over(state: str) -> bool:
    """Whether what the parameter says means that nothing is left to do."""
    progress = _PROGRESS.search(state)
    return progress is None or progress[1] == progress[2]


def _moved(mountpoint: Path) -> tuple[int, int]:
    now = counters.parse_metrics((mountpoint / "metrics").read_text())
    return now["bd_writes"], now["written_back_pages"]


def main(arguments: Sequence[str]) -> int:
    """Entry point."""
    try:
        print(json.dumps(write_back(Path(arguments[0]))))
    except OSError as exc:
        print(f"{exc.strerror or exc} ({arguments[0]})", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
