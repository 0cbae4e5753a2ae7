"""Suite `tiers`: what a page on a tier costs, by where the tier is.

    one after the other, each round from another peer on:
        fill -> write everything back, timed -> read at depth 1 -> at depth 16
    then, in turn as well, one swap area at a time: the pressure of `swap`, over a small pool

The reads are of the file, direct, of random pages, all of which are on the tier: where they were
not it is an error.  Writing back goes from a pool that holds everything.  nbdfuse has no pool: its
pages are on the other side of the network from the start, and nothing is written back.

More reads at once gain what the network takes, so `LIMITS` is for the tier that is far away.  Over
loopback nothing is waited for but processors, which all of it shares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fuseswap.errors import HostError
from fuseswap.units import GIB, KIB, MIB, PAGE_SIZE
from tests.benchmarks import command, fio
from tests.benchmarks.command import tell
from tests.benchmarks.fio import Job
from tests.benchmarks.nbd import DelayedNbdfuse
from tests.benchmarks.peers import Peer, prepared
from tests.benchmarks.results import Limit, Measurement, Sense, SuiteResult
from tests.benchmarks.suite import BASELINE, PeerFactory, Settings, interleaved
from tests.benchmarks.swap_run import Pressure, active_area, press
from tests.benchmarks.tier_peers import FileTierPeer, RemotePeer, TierPeer

DELAY_US = 200
REMOTE, FAR, NBD = "fuseswap-remote", "fuseswap-remote-200us", "nbdfuse-200us"
WRITEBACK, PRESSURE = "writeback", "pressure-over-pool"
SHALLOW, DEEP = Job("randread", 4 * KIB, 1), Job("randread", 4 * KIB, 16)

_FILL_TIMEOUT_S = 300.0
_WRITEBACK_TIMEOUT_S = 300.0
_TOUCHES_SHARE = 4  # of those of `swap`: a touch takes longer by so much and more
_SECONDS_A_TOUCH = 1e-2
_ON_TIER = 0.99  # of the reads; fio's seconds are not exact


@dataclass(frozen=True, slots=True)
class Sizes:
    """In bytes; ``range_bytes`` are read, ``process_bytes`` of a cgroup's ``limit_bytes`` swap."""

    device_bytes: int = GIB
    range_bytes: int = 512 * MIB
    pool_bytes: int = 64 * MIB  # under pressure
    process_bytes: int = 768 * MIB
    limit_bytes: int = 256 * MIB


SIZES = Sizes()
QUICK = Sizes(
    range_bytes=128 * MIB,
    pool_bytes=16 * MIB,
    process_bytes=192 * MIB,
    limit_bytes=64 * MIB,
)


def _file(name: str, *, encrypt: bool) -> FileTierPeer:
    return FileTierPeer(name, SIZES.device_bytes, SIZES.range_bytes, encrypt=encrypt)


def _remote(name: str, delay_us: int) -> RemotePeer:
    return RemotePeer(name, SIZES.device_bytes, SIZES.range_bytes, delay_us=delay_us)


PEERS: Mapping[str, PeerFactory] = {
    BASELINE: lambda: _file(BASELINE, encrypt=True),
    "fuseswap-plain": lambda: _file("fuseswap-plain", encrypt=False),
    REMOTE: lambda: _remote(REMOTE, 0),
    FAR: lambda: _remote(FAR, DELAY_US),
    NBD: lambda: DelayedNbdfuse(NBD, SIZES.device_bytes, DELAY_US),
}

LIMITS = (Limit(DEEP.name, "times_depth_1", FAR, Sense.AT_LEAST, 4),)


def run(settings: Settings, peers: Sequence[Peer]) -> SuiteResult:
    """Prepare all, measure them in turn, tear all down.  Raises `HostError`."""
    sizes = QUICK if settings.quick else SIZES
    pressure = Pressure(
        sizes.process_bytes,
        sizes.limit_bytes,
        max(1, settings.touches // _TOUCHES_SHARE),
        _SECONDS_A_TOUCH,
    )
    measurements: list[Measurement] = []
    with prepared(peers):
        measurements += reads(settings, peers, sizes)
        measurements += swaps(settings, peers, sizes, pressure)
    return result_of(settings, peers, sizes, pressure, measurements)


def reads(settings: Settings, peers: Sequence[Peer], sizes: Sizes) -> Iterator[Measurement]:
    """Without swap; the peers are prepared."""
    for number, peer in interleaved(settings.rounds, peers):
        fio.run(fio.fill_command(peer.file, sizes.range_bytes), _FILL_TIMEOUT_S)
        if isinstance(peer, TierPeer):
            yield Measurement(WRITEBACK, peer.name, number, _write_back(peer))
        shallow = _read(peer, SHALLOW, settings.seconds, sizes)
        deep = _read(peer, DEEP, settings.seconds, sizes)
        deep["times_depth_1"] = deep["iops"] / shallow["iops"]
        for job, values in ((SHALLOW, shallow), (DEEP, deep)):
            yield Measurement(job.name, peer.name, number, values)
        tell(
            f"tiers round {number + 1} {peer.name}: {shallow['clat_p50_us']:.0f} us a read, "
            f"{deep['times_depth_1']:.1f} times as many at depth {DEEP.depth}"
        )


def swaps(
    settings: Settings, peers: Sequence[Peer], sizes: Sizes, pressure: Pressure
) -> Iterator[Measurement]:
    """Under pressure; the peers are prepared, and what they held is discarded."""
    for peer in peers:
        if isinstance(peer, TierPeer):
            peer.set("pool_limit_bytes", str(sizes.pool_bytes))
    for number, peer in interleaved(settings.rounds, peers):
        before = peer.traffic()
        with active_area(peer):
            values = press(pressure, peer.path)
        moved = peer.traffic().since(before)
        if isinstance(peer, TierPeer) and not moved.evicted_pages:
            raise HostError(f"{peer.name}: nothing went to its tier")
        values["evicted_pages"] = moved.evicted_pages
        yield Measurement(PRESSURE, peer.name, number, values)
        tell(
            f"tiers round {number + 1} {peer.name}: {values['total_seconds']:.1f} s, "
            f"{values['micros_per_touch']:.1f} us a touch"
        )


def _write_back(peer: TierPeer) -> dict[str, float]:
    line = (sys.executable, "-m", "tests.benchmarks.written_back", peer.mountpoint)
    found = json.loads(command.run(line, timeout_s=_WRITEBACK_TIMEOUT_S))
    return {
        "mib_per_s": found["units"] * PAGE_SIZE / MIB / found["seconds"],
        "written_mib": found["units"] * PAGE_SIZE / MIB,
        "evicted_pages": found["pages"],
    }


def _read(peer: Peer, job: Job, seconds: float, sizes: Sizes) -> dict[str, float]:
    """Raises `HostError` where pages were read from memory."""
    before = _loads(peer)
    values = fio.run(job.command(peer.file, sizes.range_bytes, seconds), seconds)
    # It ends sooner where all pages were read once.
    made = min(values["iops"] * seconds, sizes.range_bytes / PAGE_SIZE)
    loads = _loads(peer) - before
    if isinstance(peer, TierPeer) and loads < _ON_TIER * made:
        raise HostError(f"{peer.name}: only {loads} of {made:.0f} reads were from its tier")
    del values["mib_per_s"]  # a number of writing back, in this suite
    return values


def _loads(peer: Peer) -> int:
    return peer.metrics()["tier_loads"] if isinstance(peer, TierPeer) else 0


def result_of(
    settings: Settings,
    peers: Sequence[Peer],
    sizes: Sizes,
    pressure: Pressure,
    measurements: Sequence[Measurement],
) -> SuiteResult:
    """With what a reader of the tables has to know."""
    return SuiteResult(
        name="tiers",
        baseline=BASELINE,
        compared=("micros_per_touch", "total_seconds", "iops", "mib_per_s"),
        shown=(
            "iops",
            "times_depth_1",
            "clat_p50_us",
            "clat_p99_us",
            "mib_per_s",
            "total_seconds",
            "micros_per_touch",
            "evicted_pages",
        ),
        peers={peer.name: peer.describe() for peer in peers},
        settings={
            "rounds": settings.rounds,
            "seconds": settings.seconds,
            "touches": pressure.touches,
            "device_bytes": sizes.device_bytes,
            "range_bytes": sizes.range_bytes,
            "pool_bytes": sizes.pool_bytes,
            "process_bytes": sizes.process_bytes,
            "limit_bytes": sizes.limit_bytes,
            "delay_us": DELAY_US,
        },
        notes=(
            f"reads: direct, of the file, random 4 KiB of {sizes.range_bytes // MIB} MiB, "
            f"all on the tier; data: {' '.join(fio.DATA_OPTIONS)}",
            f"pressure: {pressure}; "
            f"a pool of {sizes.pool_bytes // MIB} MiB; one swap area at a time",
            "a ratio is of times (micros_per_touch, total_seconds), where less is better, or of "
            "rates (iops, mib_per_s), where more is",
            f"{BASELINE} / fuseswap-plain is what encryption costs",
        ),
        commands=[
            *(
                job.command(peers[0].file, sizes.range_bytes, settings.seconds)
                for job in (SHALLOW, DEEP)
            ),
            pressure.command(),
        ],
        targets=(),
        measurements=measurements,
        limits=LIMITS,
        pairs=((FAR, NBD), (REMOTE, FAR)),
    )
