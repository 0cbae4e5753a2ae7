"""Suite `stripes`: four processes that wait for swap at the same time, on one and on two workers.

    all peers prepared -> for each round and peer: swapon of all stripes, four pressures, swapoff

Each process has a memory cgroup of its own and a third of its pages in memory.  Counted is what all
four touch in a second while all of them touch.  Other swap has to be off.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.stripe_set import find_set
from fuseswap.errors import HostError
from fuseswap.linux import swap_area
from fuseswap.linux.cgroup import MemoryCgroup
from fuseswap.units import GIB, MIB
from tests.benchmarks import command
from tests.benchmarks.command import tell
from tests.benchmarks.peers import Fuseswap, Peer, prepared
from tests.benchmarks.results import Measurement, Sense, SuiteResult, Target
from tests.benchmarks.suite import BASELINE, PeerFactory, Settings, interleaved
from tests.benchmarks.swap_run import (
    SWAPOFF_TIMEOUT_S,
    Pressure,
    lift_limit,
    wait_for_no_swap,
)

JOB = "four-processes"
PROCESSES = 4

_DEVICE_BYTES = GIB
_PRIORITY = 32767
_SECONDS_A_TOUCH = 2e-2  # at most, of one process; a busy machine takes 7e-3
_FILL_AND_VERIFY_S = 300.0
_POLL_S = 0.1


class Striped(Fuseswap):
    """A set of stripes; the paths of all its loop devices."""

    def __init__(self, name: str, size_bytes: int, stripes: int) -> None:
        super().__init__(name, size_bytes, loop=True, up_options=("--stripes", str(stripes)))
        self._stripes = stripes
        self.paths: list[str] = []

    def describe(self) -> str:
        """As any, and how many workers."""
        return f"{super().describe()}, stripes: {self._stripes}"

    def prepare(self) -> None:
        """Bring it up without swapon."""
        self.teardown()
        info = json.loads(self._fuseswap(*self.up_command()))
        self.paths = [stripe["loop"] for stripe in info.get("stripes", [info])]

    def teardown(self) -> None:
        """Take it down, whatever there is of it."""
        with contextlib.suppress(HostError):
            if find_set(self.name) or Runtime(self.name).exists():
                self._fuseswap("down", self.name, timeout_s=SWAPOFF_TIMEOUT_S)
        self.paths = []


PEERS: Mapping[str, PeerFactory] = {
    BASELINE: lambda: Striped(BASELINE, _DEVICE_BYTES, 2),
    "one-stripe": lambda: Striped("one-stripe", _DEVICE_BYTES, 1),
}

TARGETS = (Target(JOB, "touches_per_s", "one-stripe", Sense.AT_LEAST, 1.5),)


def run(settings: Settings, peers: Sequence[Peer]) -> SuiteResult:
    """Prepare all, measure them in turn, tear all down.  Raises `HostError`."""
    devices = [peer for peer in peers if isinstance(peer, Striped)]
    each = Pressure(192 * MIB, 64 * MIB, settings.touches // PROCESSES, _SECONDS_A_TOUCH)
    measurements = []
    with prepared(devices):
        for number, device in interleaved(settings.rounds, devices):
            with _active(device):
                values = _press(each)
            measurements.append(Measurement(JOB, device.name, number, values))
            tell(
                f"stripes round {number + 1} {device.name}: "
                f"{values['touches_per_s']:.0f} touches a second, {values['total_seconds']:.1f} s"
            )
    return SuiteResult(
        name="stripes",
        baseline=BASELINE,
        compared=("touches_per_s", "total_seconds"),
        shown=("touches_per_s", "total_seconds", "bad_pages"),
        peers={device.name: device.describe() for device in devices},
        settings={
            "rounds": settings.rounds,
            "touches": each.touches * PROCESSES,
            "processes": PROCESSES,
            "size_bytes": each.size_bytes,
            "limit_bytes": each.limit_bytes,
            "device_bytes": _DEVICE_BYTES,
        },
        notes=(
            f"{PROCESSES} times {each}, at the same time, one device at a time",
            "a ratio is two stripes / one: of touches a second above 1, two are faster",
        ),
        commands=[each.command()],
        targets=TARGETS,
        measurements=measurements,
    )


@contextlib.contextmanager
def _active(device: Striped) -> Iterator[None]:
    """Make its stripes the only swap areas, of one priority.  Raises `HostError`."""
    wait_for_no_swap()
    try:
        for path in device.paths:
            command.run(("mkswap", path))
        for path in device.paths:
            command.run(("swapon", "--priority", str(_PRIORITY), "--discard", path))
        yield
    finally:
        for path in device.paths:
            if swap_area.area_of(path):
                command.run(("swapoff", path), timeout_s=SWAPOFF_TIMEOUT_S, kill=False)


def _press(each: Pressure) -> dict[str, float]:
    """All processes from their start to the end of the last one.  Raises `HostError`."""
    began = time.monotonic()
    deadline = began + _FILL_AND_VERIFY_S + each.touches * each.seconds_a_touch
    with contextlib.ExitStack() as stack:
        running = [_begin(each, number, stack) for number in range(PROCESSES)]
        while any(process.poll() is None for process, _ in running):
            if time.monotonic() > deadline:
                raise HostError("the processes did not end in time")
            time.sleep(_POLL_S)
        ends = [_end_of(process, output, each) for process, output in running]
    return {
        "touches_per_s": sum(end["touches"] / end["seconds"] for end in ends),
        "total_seconds": time.monotonic() - began,
        "bad_pages": 0,
    }


def _begin(
    each: Pressure, number: int, stack: contextlib.ExitStack
) -> tuple[subprocess.Popen[bytes], Path]:
    cgroup = stack.enter_context(MemoryCgroup(f"fuseswap-bench{number}", each.limit_bytes))
    output = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "out"
    with open(output, "wb") as file:
        process = command.begin_in(cgroup, each.command(), file)
    stack.callback(_stop, process, cgroup, each)
    return process, output


def _stop(process: subprocess.Popen[bytes], cgroup: MemoryCgroup, each: Pressure) -> None:
    """As in suite `swap`, where it has not ended by itself."""
    if process.poll() is None:
        try:
            command.stop(process)
        except HostError:
            lift_limit(cgroup, 2 * each.size_bytes)
            raise


def _end_of(process: subprocess.Popen[bytes], output: Path, each: Pressure) -> dict[str, Any]:
    lines = output.read_bytes().splitlines()
    end: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    if end.get("phase") != "end":
        raise HostError(f"a process ended with {process.returncode}; see dmesg")
    if end["bad_pages"]:
        raise HostError(f"{end['bad_pages']} BAD PAGES read back")
    if end["touches"] < each.touches:
        raise HostError(f"only {end['touches']} of {each.touches} touches in time")
    return end
