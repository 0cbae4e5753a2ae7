"""Suite `churn`: random overwrites of a pool that is 90 % full of living objects, no backing.

All room for a store has to come from the cleaner.  With a share u of the log alive, freeing
a segment by copying what lives in it costs 1 / (1 - u) bytes written for each byte stored (if
segments were all as full as their average; Rosenblum 1991): that stands beside what is measured.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from fuseswap.errors import HostError
from fuseswap.store.object_size import OBJECT_OVERHEAD
from fuseswap.units import KIB, MIB, PAGE_SIZE
from tests.benchmarks import fio
from tests.benchmarks.command import tell
from tests.benchmarks.fio import Job
from tests.benchmarks.peers import Fuseswap, Peer, prepared
from tests.benchmarks.results import Measurement, SuiteResult
from tests.benchmarks.sampler import Sampler
from tests.benchmarks.suite import BASELINE, PeerFactory, Settings, interleaved

OCCUPANCY = 0.9  # living bytes over the pool limit

_POOL_BYTES = 256 * MIB
_DEVICE_BYTES = 2048 * MIB
_SAMPLE_BYTES = 16 * MIB  # filled to learn how large an object is
_FILL_TIMEOUT_S = 120.0
_WARM_S = 10.0  # overwrites before those that are measured, so that segments are mixed

_OVERWRITE = Job("randwrite", 4 * KIB, 32)

PEERS: Mapping[str, PeerFactory] = {
    BASELINE: lambda: Fuseswap(BASELINE, _DEVICE_BYTES, pool_limit_bytes=_POOL_BYTES),
}


def run(settings: Settings, peers: Sequence[Peer]) -> SuiteResult:
    """Prepare, fill and overwrite each, tear all down.  Raises `HostError`."""
    devices = [peer for peer in peers if isinstance(peer, Fuseswap)]
    measurements = []
    with prepared(devices):
        sizes = {device.name: _fill(device) for device in devices}
        for number, device in interleaved(settings.rounds, devices):
            values = _measure(device, sizes[device.name], settings.seconds)
            measurements.append(Measurement(_OVERWRITE.name, device.name, number, values))
            tell(
                f"churn round {number + 1} {device.name}: utilisation "
                f"{values['utilisation']:.3f}, {values['written_per_stored']:.2f} bytes written "
                f"for each byte stored, {values['us_per_store']:.1f} us a store"
            )
    first = devices[0]
    return SuiteResult(
        name="churn",
        baseline=BASELINE,
        compared=(),
        shown=(
            "occupancy",
            "utilisation",
            "lowest_utilisation",
            "copied_per_stored",
            "written_per_stored",
            "theory",
            "us_per_store",
            "clat_p99_us",
            "pool_limit_hit",
        ),
        peers={device.name: device.describe() for device in devices},
        settings={
            "rounds": settings.rounds,
            "seconds": settings.seconds,
            "range_bytes": sizes[first.name],
            "pool_limit_bytes": _POOL_BYTES,
            "device_bytes": _DEVICE_BYTES,
        },
        notes=(
            "occupancy: living bytes / pool limit; utilisation: living bytes / pool_total_size, "
            "median and lowest of one sample a second",
            "written_per_stored: (stored + copied by the cleaner) / stored; "
            "theory: 1 / (1 - occupancy)",
            "no request failed and no store was refused, else there would be no table",
        ),
        commands=[_OVERWRITE.command(first.path, sizes[first.name], settings.seconds)],
        targets=(),
        measurements=measurements,
    )


def _fill(device: Fuseswap) -> int:
    """Fill the pool to `OCCUPANCY`, and mix its segments.

    Returns how many bytes of the file that takes.  Raises `HostError`.
    """
    fio.run(fio.fill_command(device.path, _SAMPLE_BYTES), _FILL_TIMEOUT_S)
    size = range_bytes(device.metrics(), _POOL_BYTES)
    if size > _DEVICE_BYTES:
        raise HostError(f"{size} bytes are needed to fill the pool of {device.name}")
    fio.run(fio.fill_command(device.path, size), _FILL_TIMEOUT_S)
    fio.run(_OVERWRITE.command(device.path, size, _WARM_S), _WARM_S)
    return size


def _measure(device: Fuseswap, size_bytes: int, seconds: float) -> dict[str, float]:
    with Sampler(device) as sampler:
        values = fio.run(_OVERWRITE.command(device.path, size_bytes, seconds), seconds)
    return {
        **values,
        **amounts(sampler.samples, _POOL_BYTES),
        "us_per_store": 1e6 / values["iops"],
        "pool_limit_hit": sampler.delta("pool_limit_hit"),
    }


def amounts(samples: Sequence[Mapping[str, int]], pool_bytes: int) -> dict[str, float]:
    """What the pool held, and what the cleaner copied for what was stored."""
    first, last = samples[0], samples[-1]
    used = [living_bytes(sample) / sample["pool_total_size"] for sample in samples]
    occupancy = living_bytes(last) / pool_bytes
    stored = (last["succ_stores"] - first["succ_stores"]) * object_bytes(last)
    copied = (last["cleaner_copied_bytes"] - first["cleaner_copied_bytes"]) / stored
    return {
        "occupancy": occupancy,
        "utilisation": statistics.median(used),
        "lowest_utilisation": min(used),
        "copied_per_stored": copied,
        "written_per_stored": 1 + copied,
        "theory": 1 / (1 - occupancy),
    }


def living_bytes(sample: Mapping[str, int]) -> int:
    """What living objects take in segments, with owner and checksum."""
    objects = sample["stored_pages"] - sample["same_filled_pages"]
    return sample["compr_data_size"] + objects * OBJECT_OVERHEAD


def object_bytes(sample: Mapping[str, int]) -> float:
    """Mean size of a stored page in a segment."""
    return living_bytes(sample) / sample["stored_pages"]


def range_bytes(sample: Mapping[str, int], pool_bytes: int) -> int:
    """Pages like those of ``sample`` that take `OCCUPANCY` of the pool, in bytes of the file."""
    return int(OCCUPANCY * pool_bytes / object_bytes(sample)) * PAGE_SIZE
