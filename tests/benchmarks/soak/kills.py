"""Ways to end a worker, one after the other, at random times.

A worker is shot only while it serves: one that is just starting has nothing in flight, and
eight of them in a row would make the device ``degraded``.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from fuseswap.daemon.device_files import Status
from fuseswap.daemon.processes import is_ours
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError, InvalidArgument
from tests.benchmarks import command

RESTART = "restart"
SIGNALS = {
    "KILL": signal.SIGKILL,
    "SEGV": signal.SIGSEGV,
    "ABRT": signal.SIGABRT,
    "STOP": signal.SIGSTOP,  # the watchdog finds it
    "exception": signal.SIGUSR2,  # see inject/sitecustomize.py
}
INJECT = Path(__file__).parent / "inject"

PAUSE_S = (0.1, 2.0)
_RARE = {"STOP": 0.1}  # each costs the seconds of the watchdog
_REPLACED_TIMEOUT_S = 60.0
_RAISED_AGAIN_S = 3.0


def parse_kinds(text: str) -> tuple[str, ...]:
    """``KILL,STOP`` as kinds; raises `InvalidArgument`."""
    kinds = tuple(text.split(","))
    for kind in kinds:
        if kind not in SIGNALS:
            raise InvalidArgument(f"'{kind}' is no way to end a worker; use {','.join(SIGNALS)}")
    return kinds


class Shooter:
    """Ends the worker of one device, each time in one of ``kinds``; ``sent`` counts them."""

    def __init__(
        self, runtime: Runtime, kinds: Sequence[str], seed: int, pause_s: tuple[float, float]
    ) -> None:
        """The pause between two is drawn from ``pause_s``."""
        self._pause_s = pause_s
        self._runtime = runtime
        self._kinds = kinds
        self._chance = random.Random(seed)
        self._due = 0.0
        self.sent: Counter[str] = Counter()
        self.wait()

    def wait(self) -> None:
        """The next one is due at a random time from now."""
        self._due = time.monotonic() + self._chance.uniform(*self._pause_s)

    def shoot_if_due(self) -> None:
        """End the worker if it is time and one serves.  Raises `HostError` where none follows."""
        if time.monotonic() < self._due or not self._kinds:
            return
        weights = [_RARE.get(kind, 1.0) for kind in self._kinds]
        [kind] = self._chance.choices(self._kinds, weights)
        if kind == RESTART:
            line = (sys.executable, "-m", "fuseswap", "restart", self._runtime.name)
            command.run(line)
            self.sent[kind] += 1
        elif pid := self._serving():
            os.kill(pid, SIGNALS[kind])
            self.sent[kind] += 1
            self._wait_for_another(pid, kind)
        self.wait()

    def _wait_for_another(self, pid: int, kind: str) -> None:
        """An error while a text file is read costs that read alone: then it is raised again."""
        again = time.monotonic() + _RAISED_AGAIN_S

        def replaced() -> bool:
            nonlocal again
            if self._serving() not in (0, pid):
                return True
            if kind == "exception" and time.monotonic() > again:
                again += _RAISED_AGAIN_S
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, SIGNALS[kind])
            return False

        self._wait_until(replaced, f"another worker ({kind})")

    def _serving(self) -> int:
        """The worker's process id, 0 while none serves."""
        state = self._runtime.state()
        pid = state.worker_pid or 0
        if state.status == Status.DEGRADED:
            raise HostError(f"{self._runtime.name} is degraded: {state.reason}")
        return pid if state.status == Status.RUNNING and is_ours(pid) else 0

    def _wait_until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _REPLACED_TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                raise HostError(f"waited {_REPLACED_TIMEOUT_S:.0f} s for {what}")
            time.sleep(0.02)
