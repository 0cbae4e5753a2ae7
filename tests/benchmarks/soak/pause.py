"""``scripts/soak pause``: what a reader waits for when its worker is replaced.

On the FUSE file itself, no swap: so much is stored, one process reads random pages at depth 1
(``reader.py``), and the worker is killed, or handed over, again and again.  The longest of the
reads that were in flight from the event to the end of the replacement is its pause.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fuseswap.daemon.device_files import Status
from fuseswap.daemon.processes import is_ours
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.sizes import format_size
from fuseswap.units import MIB, PAGE_SIZE
from tests.benchmarks import command
from tests.benchmarks.command import tell
from tests.benchmarks.peers import Fuseswap, prepared

NAME = "soak-pause"

_FILL_TIMEOUT_S = 600.0
_REPLACED_TIMEOUT_S = 60.0
_BETWEEN_S = 0.5  # counting what was stored ends meanwhile, and a worker lives long enough
_PAUSE = re.compile(r"pause (\d+) ms")


@dataclass(frozen=True, slots=True)
class Event:
    """A replacement, from ``began`` to ``ended`` (CLOCK_MONOTONIC, seconds)."""

    kind: str
    began: float
    ended: float
    said_ms: float | None = None  # the pause by the supervisor's own clock


def parse_reads(text: str) -> list[tuple[float, float]]:
    """``(start, duration)`` of the long reads, in seconds, from what ``reader.py`` prints."""
    pairs = [line.split() for line in text.splitlines() if line != "filled"]
    return [(float(pair[0]), float(pair[1])) for pair in pairs if len(pair) == 2]


def waits_ms(events: Sequence[Event], reads: Sequence[tuple[float, float]]) -> list[float]:
    """The longest read that was in flight during each event, in ms; 0 where none was long."""
    return [
        max(
            (
                spent * 1e3
                for start, spent in reads
                if start < event.ended and start + spent > event.began
            ),
            default=0.0,
        )
        for event in events
    ]


def summary(events: Sequence[Event], reads: Sequence[tuple[float, float]]) -> list[str]:
    """A line for each kind, in the order of appearance."""
    lines = []
    for kind in dict.fromkeys(event.kind for event in events):
        those = [event for event in events if event.kind == kind]
        line = f"{kind:<8} {_spread(waits_ms(those, reads))}"
        said = [event.said_ms for event in those if event.said_ms is not None]
        lines.append(f"{line}; by the supervisor: {_spread(said)}" if said else line)
    return lines


def _spread(values: Sequence[float]) -> str:
    return f"median {statistics.median(values):.0f} ms, worst {max(values):.0f} ms ({len(values)})"


def measure(stored_bytes: int, rounds: int) -> list[str]:
    """``rounds`` of each; lines for people.  Raises `HostError`, also where a page was wrong."""
    size_bytes = stored_bytes + stored_bytes // 8 + MIB
    device = Fuseswap(NAME, size_bytes)
    runtime = Runtime(NAME)
    with prepared([device]), _reader(device.path, stored_bytes) as reads:
        tell(f"{format_size(stored_bytes)} stored")
        events = []
        for number in range(rounds):
            for replace in (_kill, _hand_over):
                time.sleep(_BETWEEN_S)
                events.append(replace(runtime))
            tell(f"round {number + 1} of {rounds}")
        time.sleep(_BETWEEN_S)
        return summary(events, parse_reads(reads()))


@contextlib.contextmanager
def _reader(path: str, stored_bytes: int) -> Iterator[Callable[[], str]]:
    """A reader that has filled the file; yields what it has printed so far."""
    arguments = [sys.executable, "-m", "tests.benchmarks.soak.reader", path]
    arguments.append(str(stored_bytes // PAGE_SIZE))
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            cwd="/",
            env=command.environment(),
            start_new_session=True,
        )

        def printed() -> str:
            return os.pread(output.fileno(), os.fstat(output.fileno()).st_size, 0).decode()

        try:
            _wait(lambda: "filled" in printed(), process, _FILL_TIMEOUT_S, "the file to be filled")
            yield printed
            if process.poll() is not None:
                raise HostError(f"the reader ended with {process.returncode}")
        finally:
            command.stop(process)
        if process.returncode:
            raise HostError("the reader was given a page it had not asked for")


def _wait(
    condition: Callable[[], bool], process: subprocess.Popen[bytes], timeout_s: float, what: str
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise HostError(f"waited for {what} in vain")
        time.sleep(0.1)


def _kill(runtime: Runtime) -> Event:
    """SIGKILL; over when the worker that follows is ready."""
    _wait_for_standby(runtime)
    before = runtime.state().worker_pid or 0
    began = time.monotonic()
    os.kill(before, signal.SIGKILL)
    while True:
        now = runtime.state()
        serves = now.status == Status.RUNNING and is_ours(now.worker_pid)
        if serves and now.worker_pid != before:
            return Event("SIGKILL", began, time.monotonic())
        if time.monotonic() - began > _REPLACED_TIMEOUT_S:
            raise HostError(f"no worker after {before} (see {runtime.log_path})")
        time.sleep(0.005)


def _wait_for_standby(runtime: Runtime) -> None:
    """Until the device has its standby again, as it had for days."""
    deadline = time.monotonic() + _REPLACED_TIMEOUT_S
    while not is_ours(runtime.state().standby_pid):
        if time.monotonic() > deadline:
            raise HostError(f"no standby (see {runtime.log_path})")
        time.sleep(0.02)


def _hand_over(runtime: Runtime) -> Event:
    """``fuseswap restart``, whose pause is a small part of it."""
    began = time.monotonic()
    said = command.run((sys.executable, "-m", "fuseswap", "restart", runtime.name))
    pause = _PAUSE.search(said)
    if pause is None:
        raise HostError(f"restart said {said.strip()!r}")
    return Event("restart", began, time.monotonic(), float(pause[1]))
