"""Suite `io`: fio on the file or the block device of each peer, no swap involved.

Every job goes round the peers before the next job begins, so a change in the machine's
speed meets all of them.  Latencies and rates are of the whole path: fio, kernel, server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fuseswap.units import MIB
from tests.benchmarks import fio
from tests.benchmarks.command import tell
from tests.benchmarks.nbd import Nbdfuse
from tests.benchmarks.peers import Fuseswap, Peer, Zram, prepared
from tests.benchmarks.results import Measurement, Sense, SuiteResult, Target
from tests.benchmarks.suite import BASELINE, PeerFactory, Settings, interleaved

RANGE_BYTES = 256 * MIB  # read and written
_DEVICE_BYTES = 512 * MIB
_FILL_TIMEOUT_S = 120.0

PEERS: Mapping[str, PeerFactory] = {
    BASELINE: lambda: Fuseswap(BASELINE, _DEVICE_BYTES),
    "fuseswap-loop": lambda: Fuseswap("fuseswap-loop", _DEVICE_BYTES, loop=True),
    "pyfuse3": lambda: Fuseswap("pyfuse3", _DEVICE_BYTES, transport="pyfuse3"),
    "nbdfuse": lambda: Nbdfuse("nbdfuse", _DEVICE_BYTES),
    "zram": lambda: Zram("zram", _DEVICE_BYTES),
}

TARGETS = (
    Target("randread-4k-qd1", "iops", "nbdfuse", Sense.AT_LEAST, 4),
    Target("randwrite-4k-qd1", "iops", "nbdfuse", Sense.AT_LEAST, 4),
    Target("randread-4k-qd32", "iops", "nbdfuse", Sense.AT_LEAST, 5),
    Target("randwrite-4k-qd32", "iops", "nbdfuse", Sense.AT_LEAST, 12),
    Target("randread-4k-qd32", "iops", "zram", Sense.AT_LEAST, 0.65),
    Target("randwrite-4k-qd32", "iops", "zram", Sense.AT_LEAST, 0.65),
)


def run(settings: Settings, peers: Sequence[Peer]) -> SuiteResult:
    """Prepare and fill all, measure them in turn, tear all down.  Raises `HostError`."""
    measurements = []
    commands = []
    with prepared(peers):
        for peer in peers:
            fill = fio.fill_command(peer.path, RANGE_BYTES)
            commands.append(fill)
            fio.run(fill, _FILL_TIMEOUT_S)
        for job in fio.JOBS:
            commands += [job.command(peer.path, RANGE_BYTES, settings.seconds) for peer in peers]
            for number, peer in interleaved(settings.rounds, peers):
                line = job.command(peer.path, RANGE_BYTES, settings.seconds)
                values = fio.run(line, settings.seconds)
                measurements.append(Measurement(job.name, peer.name, number, values))
                tell(f"io {job.name} round {number + 1} {peer.name}: {values['iops']:.0f} iops")
    return SuiteResult(
        name="io",
        baseline=BASELINE,
        compared=("iops",),
        shown=(
            "iops",
            "mib_per_s",
            "lat_mean_us",
            "clat_mean_us",
            "clat_p50_us",
            "clat_p99_us",
        ),
        peers={peer.name: peer.describe() for peer in peers},
        settings={
            "rounds": settings.rounds,
            "seconds": settings.seconds,
            "range_bytes": RANGE_BYTES,
            "device_bytes": _DEVICE_BYTES,
        },
        notes=(
            f"data: {' '.join(fio.DATA_OPTIONS)} (fresh buffers, {fio.COMPRESS_PERCENT} % of "
            f"each compresses away); {RANGE_BYTES // MIB} MiB filled beforehand; "
            "libaio, direct=1",
            "lat counts from submission; clat from its end, so at a device that completes "
            "while it is submitted to (zram) clat says little",
            "a ratio is fuseswap / peer of iops: above 1, fuseswap is faster",
        ),
        commands=commands,
        targets=TARGETS,
        measurements=measurements,
    )
