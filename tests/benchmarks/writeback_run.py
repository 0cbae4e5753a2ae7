"""Suite `writeback`: the pressure of `swap`, with pools that are too small for it.

Our pool with a backing file, zswap's over a plain swap file, and that file alone, all on one
disk.  Both pools may take `zswap.POOL_PERCENT` of memory; the process is so large that they
overflow on any machine.  What went to the disk is counted twice: by each peer's own
counters, and at the disk, which also counts everybody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fuseswap.units import MIB
from tests.benchmarks import zswap
from tests.benchmarks.command import tell
from tests.benchmarks.counters import disk_io
from tests.benchmarks.peers import DISK, Fuseswap, Peer, SwapFile, prepared
from tests.benchmarks.results import Measurement, Sense, SuiteResult, Target
from tests.benchmarks.suite import BASELINE, PeerFactory, Settings, interleaved
from tests.benchmarks.swap_run import Pressure, active_area, press

JOB = "pressure-over-pool"
COMPARED = (
    "total_seconds",
    "micros_per_touch",
    "bytes_per_evicted_page",
    "written_mib",
    "disk_written_mib",
)

_POOL_BYTES = zswap.pool_limit_bytes()
LIMIT_BYTES = 256 * MIB  # of the cgroup
# Pages swapped out, in pools: a sixth of them is zero and in none, the others compress to 40 %.
_POOLS = 5
PROCESS_BYTES = LIMIT_BYTES + _POOLS * _POOL_BYTES // MIB * MIB
_DEVICE_BYTES = (PROCESS_BYTES * 5 // 4) // MIB * MIB


def fuseswap(name: str, layout: str) -> Fuseswap:
    """Our device with a pool like zswap's and a backing file of its own size."""
    return Fuseswap(
        name,
        _DEVICE_BYTES,
        loop=True,
        pool_limit_bytes=_POOL_BYTES,
        backing_bytes=_DEVICE_BYTES,
        layout=layout,
    )


PEERS: Mapping[str, PeerFactory] = {
    BASELINE: lambda: fuseswap(BASELINE, "packed"),
    "fuseswap-in-place": lambda: fuseswap("fuseswap-in-place", "in-place"),
    "zswap": lambda: zswap.Zswap("zswap", _DEVICE_BYTES),
    "swapfile": lambda: SwapFile("swapfile", _DEVICE_BYTES),
}

TARGETS = (
    Target(JOB, "bytes_per_evicted_page", "zswap", Sense.AT_MOST, 0.5),
    Target(JOB, "total_seconds", "zswap", Sense.AT_MOST, 1.0),
)


def run(settings: Settings, peers: Sequence[Peer]) -> SuiteResult:
    """Prepare all, measure them in turn, tear all down.  Raises `HostError`."""
    pressure = Pressure(PROCESS_BYTES, LIMIT_BYTES, settings.touches)
    measurements = []
    with prepared(peers):
        for number, peer in interleaved(settings.rounds, peers):
            with active_area(peer):
                values = _measure(pressure, peer)
            measurements.append(Measurement(JOB, peer.name, number, values))
            tell(
                f"writeback round {number + 1} {peer.name}: {values['total_seconds']:.1f} s, "
                f"{values['evicted_pages']:.0f} pages evicted, "
                f"{values['bytes_per_evicted_page']:.0f} bytes each"
            )
    return SuiteResult(
        name="writeback",
        baseline=BASELINE,
        compared=COMPARED,
        shown=(
            "total_seconds",
            "micros_per_touch",
            "evicted_pages",
            "written_back_pages",
            "bytes_per_evicted_page",
            "written_mib",
            "read_mib",
            "disk_written_mib",
            "disk_read_mib",
            "peak_pool_mib",
            "bad_pages",
        ),
        peers={peer.name: peer.describe() for peer in peers},
        settings={
            "rounds": settings.rounds,
            "touches": settings.touches,
            "size_bytes": pressure.size_bytes,
            "limit_bytes": pressure.limit_bytes,
            "device_bytes": _DEVICE_BYTES,
            "pool_limit_bytes": _POOL_BYTES,
        },
        notes=(
            f"{pressure}; one swap area at a time; pools of {_POOL_BYTES // MIB} MiB",
            "written, read: by the counters of the peer; disk_*: of the whole disk, which "
            "others use too",
            "a ratio is fuseswap / peer: below 1, fuseswap is faster, or writes less",
        ),
        commands=[pressure.command()],
        targets=TARGETS,
        measurements=measurements,
    )


def _measure(pressure: Pressure, peer: Peer) -> dict[str, float]:
    pool = [peer.pool_bytes()]
    traffic = peer.traffic()
    disk = disk_io(DISK)
    values = press(pressure, peer.path, lambda: pool.append(peer.pool_bytes()))
    moved = peer.traffic().since(traffic)
    all_moved = disk_io(DISK).since(disk)
    return {
        **values,
        "evicted_pages": moved.evicted_pages,
        "written_back_pages": moved.written_back_pages,
        "bytes_per_evicted_page": moved.bytes_per_evicted_page,
        "written_mib": moved.written_bytes / MIB,
        "read_mib": moved.read_bytes / MIB,
        "disk_written_mib": all_moved.written_bytes / MIB,
        "disk_read_mib": all_moved.read_bytes / MIB,
        "peak_pool_mib": max(pool) / MIB,
    }
