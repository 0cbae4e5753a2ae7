"""Suite `contended`: a swap run beside processes that compute, since a machine that swaps is busy.

    for each round, number of computing processes and peer: mkswap, swapon, pressure, swapoff

A job is named after how many compute: `beside-0` has the machine to itself.  What they lose is
measured too: their loops during the run, over those they do just before it with nothing beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fuseswap.units import GIB, MIB
from tests.benchmarks import machine
from tests.benchmarks.command import tell
from tests.benchmarks.computing import computing
from tests.benchmarks.peers import Fuseswap, Peer, SwapFile, Zram, prepared
from tests.benchmarks.results import Measurement, Sense, SuiteResult, Target
from tests.benchmarks.suite import BASELINE, PeerFactory, Settings, interleaved
from tests.benchmarks.swap_run import Pressure, active_area, press

PROCESSES = (0, 1, 2, 4)

_DEVICE_BYTES = GIB
_SECONDS_A_TOUCH = 0.01  # at most: a computing process has 3 ms at a time
_TOUCHES_SHARE = 0.2  # of those of the suite `swap`: a touch takes longer, and there are more runs

PEERS: Mapping[str, PeerFactory] = {
    BASELINE: lambda: Fuseswap(BASELINE, _DEVICE_BYTES, loop=True),
    "fuseswap-no-poll": lambda: Fuseswap(
        "fuseswap-no-poll", _DEVICE_BYTES, loop=True, parameters={"busy_poll_us": "0"}
    ),
    "zram": lambda: Zram("zram", _DEVICE_BYTES),
    "swapfile": lambda: SwapFile("swapfile", _DEVICE_BYTES),
}


def job_of(processes: int) -> str:
    """The name of a job."""
    return f"beside-{processes}"


TARGETS = tuple(
    Target(job_of(processes), "micros_per_touch", "swapfile", Sense.AT_MOST, 0.6)
    for processes in PROCESSES
    if processes
)


def run(settings: Settings, peers: Sequence[Peer]) -> SuiteResult:
    """Prepare all, measure them in turn, tear all down.  Raises `HostError`."""
    touches = max(int(settings.touches * _TOUCHES_SHARE), 1)
    pressure = Pressure(512 * MIB, 256 * MIB, touches, _SECONDS_A_TOUCH)
    turns = [(processes, peer) for processes in PROCESSES for peer in peers]
    measurements = []
    with prepared(peers):
        for number, (processes, peer) in interleaved(settings.rounds, turns):
            values = measure(pressure, processes, peer)
            measurements.append(Measurement(job_of(processes), peer.name, number, values))
            tell(
                f"contended {job_of(processes)} round {number + 1} {peer.name}: "
                f"{values['micros_per_touch']:.1f} us a touch, {values['total_seconds']:.1f} s"
            )
    return SuiteResult(
        name="contended",
        baseline=BASELINE,
        compared=("micros_per_touch", "total_seconds"),
        shown=(
            "micros_per_touch",
            "total_seconds",
            "computed_percent",
            "computing_lost_s",
            "peak_swap_mib",
            "bad_pages",
        ),
        peers={peer.name: peer.describe() for peer in peers},
        settings={
            "rounds": settings.rounds,
            "touches": pressure.touches,
            "size_bytes": pressure.size_bytes,
            "limit_bytes": pressure.limit_bytes,
            "device_bytes": _DEVICE_BYTES,
            "processes": PROCESSES,
        },
        notes=(
            f"{pressure}; beside-N: beside N processes that compute",
            "a ratio is fuseswap / peer of the time: below 1, fuseswap is faster",
            machine.halt_polling(),
            "computed_percent: of what they compute with nothing beside them; computing_lost_s: "
            "the processor time they did not get during the run",
        ),
        commands=[pressure.command()],
        targets=TARGETS,
        measurements=measurements,
    )


def measure(pressure: Pressure, processes: int, peer: Peer) -> dict[str, float]:
    """One run.  Raises `HostError`, also where a page was bad."""
    with computing(processes) as beside, active_area(peer):
        beside.begin()
        values = press(pressure, peer.path)
        return {**values, **(beside.lost() if processes else {})}
