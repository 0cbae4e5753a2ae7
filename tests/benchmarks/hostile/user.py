"""The hostile process: an ordinary user, who tries everything again and again.

    python -m tests.benchmarks.hostile.user MODE SEED TARGETS

Begins as root, and gives up every right for good.  MODE is ``hostile``, or ``busy``: that one
takes as much of the machine, and leaves the swap alone.  Prints lines of JSON, each with all so
far: ``rounds``, and ``tally``, by attempt and outcome.  It goes on until it is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping

from tests.benchmarks.hostile import files, machine, processes
from tests.benchmarks.hostile.attempts import Targets, outcome

HOSTILE, BUSY = "hostile", "busy"
NOBODY = 65534
_ATTEMPTS = (*files.ATTEMPTS, *processes.ATTEMPTS, *machine.ATTEMPTS)
NAMES = tuple(attempt.name for attempt in _ATTEMPTS)
_LIMITS = (
    (resource.RLIMIT_NPROC, 256),
    (resource.RLIMIT_NOFILE, 4096),
    (resource.RLIMIT_FSIZE, 64 << 20),
    (resource.RLIMIT_CORE, 0),
)
_SET_DUMPABLE = 4
_TELL_EVERY_S = 0.25
_ROUND_S = 0.35  # of all attempts, on two idle processors


def drop_rights(home: str) -> None:
    """As a login does it.  What is in ``/proc/self`` is his again."""
    for kind, limit in _LIMITS:
        resource.setrlimit(kind, (limit, limit))
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    ctypes.CDLL(None).prctl(_SET_DUMPABLE, 1, 0, 0, 0)
    os.environ.update(HOME=home, TMPDIR=home)
    os.umask(0)


def _be_busy(targets: Targets) -> None:
    rounds = 0
    while True:
        end = time.monotonic() + _ROUND_S
        for attempt in _ATTEMPTS:
            if attempt.of_machine and rounds % attempt.every == 0:
                outcome(attempt, targets)
        while time.monotonic() < end:
            sum(range(1000))
        rounds += 1


def _be_hostile(targets: Targets, seed: int) -> None:
    chance = random.Random(seed)
    tally: dict[str, Counter[str]] = {name: Counter() for name in NAMES}
    rounds, told = 0, 0.0
    while True:
        due = [one for one in _ATTEMPTS if rounds % one.every == 0]
        chance.shuffle(due)
        for attempt in sorted(due, key=lambda one: one.every):  # what takes long comes last
            tally[attempt.name][outcome(attempt, targets)] += 1
            if time.monotonic() - told > _TELL_EVERY_S:
                told = time.monotonic()
                _tell(rounds, tally)
        rounds += 1
        if rounds == 1:
            _tell(rounds, tally)


def _tell(rounds: int, tally: Mapping[str, Mapping[str, int]]) -> None:
    print(json.dumps({"rounds": rounds, "tally": tally}), flush=True)


def main() -> None:
    """Never returns."""
    mode, seed, targets = sys.argv[1], int(sys.argv[2]), Targets.parse(sys.argv[3])
    drop_rights(targets.home)
    if mode == BUSY:
        _be_busy(targets)
    _be_hostile(targets, seed)


if __name__ == "__main__":
    main()
