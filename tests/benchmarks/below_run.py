"""Suite `below`: our device alone and below zswap, beside zram and zswap over a plain file.

The pressure of `swap`, of a process so large that a pool of `PERCENTS[0]` overflows on any machine.
The other pools hold all of it, so nothing comes down to us there: that is what they cost.

Memory is that of all parts at one moment, sampled once a second: zswap's pool and entries, our
pool, tables and processes, zram's pool and table.  Written bytes are counted by each peer, and at
the disk, which also counts everybody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fuseswap.daemon.config import BELOW_COMPRESSOR
from fuseswap.linux.zswap import recommended
from fuseswap.linux.zswap_use import zswap_use
from fuseswap.units import MIB, PAGE_SIZE
from tests.benchmarks import zswap
from tests.benchmarks.command import tell
from tests.benchmarks.counters import disk_io
from tests.benchmarks.peers import DISK, Fuseswap, Peer, Zram, prepared
from tests.benchmarks.results import Limit, Measurement, Sense, SuiteResult, Target
from tests.benchmarks.suite import BASELINE, PeerFactory, Settings, interleaved
from tests.benchmarks.swap_run import Pressure, active_area, press

JOB = "pressure-over-zswap"
PERCENTS = (1, 5, 20)
BELOW = f"below-{PERCENTS[0]}"
COMPARED = ("total_seconds", "micros_per_touch", "peak_memory_mib")

_LIMIT_BYTES = 256 * MIB  # of the cgroup
_POOLS = 12  # of one percent: the pages swapped out
_PROCESS_BYTES = _LIMIT_BYTES + _POOLS * zswap.pool_limit_bytes() // MIB * MIB
_DEVICE_BYTES = (_PROCESS_BYTES * 5 // 4) // MIB * MIB
_ENTRY_BYTES = 56  # struct zswap_entry of Linux 6.18


class Below(Fuseswap):
    """Our device as `up --below-zswap` makes it; zswap is on only while it is measured."""

    def __init__(self, name: str, size_bytes: int, percent: int) -> None:
        super().__init__(name, size_bytes, loop=True, compressor=BELOW_COMPRESSOR)
        wanted = recommended(percent)
        if not zswap.takes("compressor", wanted["compressor"]):
            del wanted["compressor"]  # as `up` leaves it, too
        self.zswap = wanted

    def describe(self) -> str:
        """With what stands in front."""
        settings = " ".join(f"{name}={value}" for name, value in self.zswap.items())
        return f"{super().describe()}, below zswap ({settings})"


def below(percent: int) -> PeerFactory:
    """How to make the peer below a pool of ``percent``."""
    return lambda: Below(f"below-{percent}", _DEVICE_BYTES, percent)


PEERS: Mapping[str, PeerFactory] = {
    BASELINE: lambda: Fuseswap(BASELINE, _DEVICE_BYTES, loop=True),
    **{f"below-{percent}": below(percent) for percent in PERCENTS},
    "zram": lambda: Zram("zram", _DEVICE_BYTES),
    "zswap": lambda: zswap.Zswap("zswap", _DEVICE_BYTES),
}

TARGETS = (
    Target(JOB, "total_seconds", "zswap", Sense.AT_MOST, 1.15),
    Target(JOB, "micros_per_touch", "zswap", Sense.AT_MOST, 1.15),
    Target(JOB, "peak_memory_mib", "zram", Sense.AT_MOST, 0.8),
)
LIMITS = (Limit(JOB, "written_mib", BELOW, Sense.AT_MOST, 0.0),)


def run(settings: Settings, peers: Sequence[Peer]) -> SuiteResult:
    """Prepare all, measure them in turn, tear all down.  Raises `HostError`."""
    pressure = Pressure(_PROCESS_BYTES, _LIMIT_BYTES, settings.touches)
    measurements = []
    with prepared(peers):
        for number, peer in interleaved(settings.rounds, peers):
            with active_area(peer):
                values = measure(pressure, peer)
            measurements.append(Measurement(JOB, peer.name, number, values))
            tell(
                f"below round {number + 1} {peer.name}: {values['total_seconds']:.1f} s, "
                f"{values['micros_per_touch']:.1f} us a touch, "
                f"{values['peak_memory_mib']:.0f} MiB of memory"
            )
    return SuiteResult(
        name="below",
        baseline=BELOW,
        compared=COMPARED,
        shown=(
            "total_seconds",
            "micros_per_touch",
            "peak_memory_mib",
            "peak_zswap_mib",
            "peak_own_mib",
            "handed_down_pages",
            "written_mib",
            "disk_written_mib",
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
            "memory: all parts of a peer at one moment, with processes, tables and zswap's pool",
            "written: by the counters of the peer; disk_written: of the whole disk, which others "
            "use too",
            f"a ratio is {BELOW} / peer: below 1, {BELOW} is faster, or takes less",
        ),
        commands=[pressure.command()],
        targets=TARGETS,
        limits=LIMITS,
        measurements=measurements,
    )


def measure(pressure: Pressure, peer: Peer) -> dict[str, float]:
    """One run, swapping to ``peer``."""
    front, own = [0], [0]

    def look() -> None:
        now = zswap_use()
        front.append(now.pool_bytes + now.stored_bytes // PAGE_SIZE * _ENTRY_BYTES)
        own.append(peer.all_memory_bytes())

    look()
    before, traffic, disk = zswap_use(), peer.traffic(), disk_io(DISK)
    values = press(pressure, peer.path, look)
    moved, all_moved = peer.traffic().since(traffic), disk_io(DISK).since(disk)
    return {
        **values,
        "peak_memory_mib": max(map(sum, zip(front, own, strict=True))) / MIB,
        "peak_zswap_mib": max(front) / MIB,
        "peak_own_mib": max(own) / MIB,
        "idle_own_mib": own[1] / MIB,
        "handed_down_pages": zswap_use().written_back_pages - before.written_back_pages,
        "written_mib": moved.written_bytes / MIB,
        "disk_written_mib": all_moved.written_bytes / MIB,
    }
