"""Suite `swap`: a process three times the size of its memory cgroup, one swap area at a time.

    all peers prepared -> for each round and peer: mkswap, swapon, pressure, swapoff

The pressure is in the memory cgroup only; the machine itself is never short.  No other
swap area may be active, nor come up during a run, which then ends at once: a priority does
not keep pages out of it, since the kernel fills each processor's current cluster first,
whatever area that is in (seen on 6.18), and pages in another area hang with it.

Every page the process reads back is verified: one bad page fails the benchmark.  swapoff
always runs, is never killed, and is waited for with a limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fuseswap.errors import HostError
from fuseswap.linux import swap_area
from fuseswap.linux.cgroup import MemoryCgroup
from fuseswap.units import GIB, MIB
from tests.benchmarks import command, machine, zswap
from tests.benchmarks.command import tell
from tests.benchmarks.peers import Fuseswap, Peer, SwapFile, Zram, prepared
from tests.benchmarks.results import Measurement, Sense, SuiteResult, Target
from tests.benchmarks.suite import BASELINE, PeerFactory, Settings, interleaved

JOB = "pressure-768m-in-256m"

_DEVICE_BYTES = GIB
_PRIORITY = 32767  # the highest there is
_SECONDS_A_TOUCH = 1e-3  # a bound, 20 times what a plain swap file takes
_FILL_AND_VERIFY_S = 300.0
SWAPOFF_TIMEOUT_S = 300.0
_OTHERS_TIMEOUT_S = 120.0
_POLL_S = 0.25
_WATCH_S = 1.0


@dataclass(frozen=True, slots=True)
class Pressure:
    """A process of ``size_bytes`` in a memory cgroup of ``limit_bytes``."""

    size_bytes: int
    limit_bytes: int
    touches: int
    seconds_a_touch: float = _SECONDS_A_TOUCH  # at most

    def command(self) -> list[str]:
        """What runs in the cgroup; the same pages in the same order each time."""
        seconds = str(self.touches * self.seconds_a_touch + 1)
        return [
            sys.executable, "-m", "fuseswap.cli.pressure", "--size", str(self.size_bytes),
            "--touches", str(self.touches), "--seconds", seconds,
        ]  # fmt: skip

    def __str__(self) -> str:
        return (
            f"a process of {self.size_bytes // MIB} MiB in a memory cgroup of "
            f"{self.limit_bytes // MIB} MiB: fill, {self.touches} random touches, verify all"
        )


PEERS: Mapping[str, PeerFactory] = {
    BASELINE: lambda: Fuseswap(BASELINE, _DEVICE_BYTES, loop=True),
    "pyfuse3": lambda: Fuseswap("pyfuse3", _DEVICE_BYTES, transport="pyfuse3", loop=True),
    "zram": lambda: Zram("zram", _DEVICE_BYTES),
    "swapfile": lambda: SwapFile("swapfile", _DEVICE_BYTES),
}

TARGETS = tuple(
    Target(JOB, metric, "swapfile", Sense.AT_MOST, 0.65)
    for metric in ("total_seconds", "micros_per_touch")
)


def run(settings: Settings, peers: Sequence[Peer]) -> SuiteResult:
    """Prepare all, measure them in turn, tear all down.  Raises `HostError`."""
    pressure = Pressure(768 * MIB, 256 * MIB, settings.touches)
    measurements = []
    with prepared(peers):
        for number, peer in interleaved(settings.rounds, peers):
            with active_area(peer):
                values = press(pressure, peer.path)
            measurements.append(Measurement(JOB, peer.name, number, values))
            tell(
                f"swap round {number + 1} {peer.name}: {values['total_seconds']:.1f} s, "
                f"{values['micros_per_touch']:.1f} us a touch"
            )
    return SuiteResult(
        name="swap",
        baseline=BASELINE,
        compared=("total_seconds", "micros_per_touch"),
        shown=(
            "total_seconds",
            "touch_seconds",
            "micros_per_touch",
            "peak_swap_mib",
            "bad_pages",
        ),
        peers={peer.name: peer.describe() for peer in peers},
        settings={
            "rounds": settings.rounds,
            "touches": settings.touches,
            "size_bytes": pressure.size_bytes,
            "limit_bytes": pressure.limit_bytes,
            "device_bytes": _DEVICE_BYTES,
        },
        notes=(
            f"{pressure}; one swap area at a time",
            "a ratio is fuseswap / peer of the time: below 1, fuseswap is faster",
            machine.halt_polling(),
        ),
        commands=[pressure.command()],
        targets=TARGETS,
        measurements=measurements,
    )


@contextlib.contextmanager
def active_area(peer: Peer) -> Iterator[None]:
    """Make ``peer`` the only swap area.  Raises `HostError`, also where others stay active."""
    wait_for_no_swap()
    command.run(("mkswap", peer.path))
    discard = ("--discard",) if peer.discard else ()
    with zswap.configured(peer.zswap):
        try:
            command.run(("swapon", "--priority", str(_PRIORITY), *discard, peer.path))
            yield
        finally:
            if swap_area.area_of(peer.path):
                command.run(("swapoff", peer.path), timeout_s=SWAPOFF_TIMEOUT_S, kill=False)


def press(
    pressure: Pressure, device: str, watch: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """One run in the cgroup, swapping to ``device``; ``watch`` is called once a second.

    Returns `total_seconds` (fill, touch, verify), of which `touch_seconds`, `micros_per_touch`,
    `peak_swap_mib` and `bad_pages`.  Raises `HostError` where a page was bad, the run did
    not finish, or another swap area came up.
    """
    most_s = _FILL_AND_VERIFY_S + pressure.touches * pressure.seconds_a_touch
    deadline = time.monotonic() + most_s
    watched = 0.0
    peak_bytes = 0
    with (
        MemoryCgroup("fuseswap-bench", pressure.limit_bytes) as cgroup,
        tempfile.TemporaryFile() as output,
    ):
        process = command.begin_in(cgroup, pressure.command(), output)
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise HostError(f"the pressure on {device} did not end in time")
                peak_bytes = max(peak_bytes, used_bytes(device))
                if time.monotonic() - watched > _WATCH_S:
                    watched = time.monotonic()
                    watch()
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                _stop(process, cgroup, pressure)
        output.seek(0)
        lines = output.read().splitlines()
    end = json.loads(lines[-1]) if lines else {}
    _check(end, process.returncode, device, pressure.touches)
    return {
        "total_seconds": end["total_seconds"],
        "touch_seconds": end["seconds"],
        "micros_per_touch": end["micros_per_touch"],
        "peak_swap_mib": peak_bytes / MIB,
        "bad_pages": end["bad_pages"],
    }


def used_bytes(device: str) -> int:
    """What ``device`` holds.  Raises `HostError` where it is not the only area."""
    areas = swap_area.areas()
    if [area.device for area in areas] != [device]:
        names = ", ".join(area.device for area in areas) or "none"
        raise HostError(f"{device} did not stay the only swap area (now: {names}); run it again")
    return areas[0].used_bytes


def _stop(process: subprocess.Popen[bytes], cgroup: MemoryCgroup, pressure: Pressure) -> None:
    """End it.  Where it hangs, lift its limit: a swapoff brings its pages back into the cgroup."""
    try:
        command.stop(process)
    except HostError:
        lift_limit(cgroup, 2 * pressure.size_bytes)
        raise


def lift_limit(cgroup: MemoryCgroup, size_bytes: int) -> None:
    """Give a cgroup room for what comes back from swap."""
    for limit in ("memory.max", "memory.limit_in_bytes"):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            fd = os.open(cgroup.path / limit, os.O_WRONLY)  # never creates it
            with open(fd, "w") as file:
                file.write(str(size_bytes))


def _check(end: dict[str, object], returncode: int, device: str, touches: int) -> None:
    if end.get("phase") != "end":
        raise HostError(f"the pressure on {device} ended with {returncode}; see dmesg")
    if end["bad_pages"]:
        raise HostError(f"{end['bad_pages']} BAD PAGES read back from {device}")
    done = end["touches"]
    if not isinstance(done, int) or done < touches:
        raise HostError(f"only {done} of {touches} touches in time on {device}")


def wait_for_no_swap() -> None:
    """Until other swap has gone.  Raises `HostError`."""
    deadline = time.monotonic() + _OTHERS_TIMEOUT_S
    while others := swap_area.areas():
        names = ", ".join(area.device for area in others)
        if time.monotonic() > deadline:
            raise HostError(f"other swap is active ({names}); switch it off: swapoff {names}")
        tell(f"waiting for other swap to go: {names}")
        time.sleep(2)
