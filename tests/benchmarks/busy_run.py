"""Suite `busy`: how long a read waits while segments leave the pool and are cleaned.

One page at a time, of pages in memory (`hot`) and of any page (`mix`), first with nothing
else going on and then beside a writer:

    0         4 MiB                                            512 MiB
    | hot       | overwritten at random, at a fixed rate             |
    | mix                                                            |

The hot pages are written again once a second, so that they are always among the youngest:
what is read often would not do, since a page on the backing file stays there.  The rate is
fixed so that a faster device does not get more to do.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from fuseswap.errors import HostError
from fuseswap.units import KIB, MIB
from tests.benchmarks import command, fio
from tests.benchmarks.command import tell
from tests.benchmarks.fio import Job
from tests.benchmarks.peers import Fuseswap, Peer, prepared
from tests.benchmarks.results import Limit, Measurement, Sense, SuiteResult
from tests.benchmarks.sampler import Sampler
from tests.benchmarks.suite import BASELINE, PeerFactory, Settings, interleaved

HOT_BYTES = 4 * MIB
RANGE_BYTES = 512 * MIB
MOST_P999_US = 2000.0  # of a read from memory, while everything in the background runs
WRITES_A_SECOND = 8000  # of 4 KiB: about what swap-out is in the suite `swap`

_DEVICE_BYTES = 1024 * MIB
_POOL_BYTES = 64 * MIB
_FILL_TIMEOUT_S = 300.0
_SETTLE_TIMEOUT_S = 120.0
_WARM_S = 3.0  # of the writer, before it is measured beside
_HOT_BLOCK = 64 * KIB

_READ = Job("randread", 4 * KIB, 1)
_OVERWRITE = Job("randwrite", 4 * KIB, 8)
_REFRESH = Job("write", _HOT_BLOCK, 1)

# The parts of the file that are read, by name.
READ_BYTES = {"hot": HOT_BYTES, "mix": RANGE_BYTES}


def _device(name: str, loop: bool) -> Fuseswap:
    return Fuseswap(
        name,
        _DEVICE_BYTES,
        loop=loop,
        pool_limit_bytes=_POOL_BYTES,
        backing_bytes=RANGE_BYTES,  # compressed, it takes half of that
    )


PEERS: Mapping[str, PeerFactory] = {
    BASELINE: lambda: _device(BASELINE, loop=False),
    "fuseswap-loop": lambda: _device("fuseswap-loop", loop=True),
}


def run(settings: Settings, peers: Sequence[Peer]) -> SuiteResult:
    """Prepare and fill all, measure them in turn, tear all down.  Raises `HostError`."""
    devices = [peer for peer in peers if isinstance(peer, Fuseswap)]
    measurements = []
    with prepared(devices):
        for device in devices:
            fio.run(fio.fill_command(device.path, RANGE_BYTES), _FILL_TIMEOUT_S)
        for number, device in interleaved(settings.rounds, devices):
            fio.run(fio.fill_command(device.path, HOT_BYTES), _FILL_TIMEOUT_S)
            _settle(device)
            values = {f"{part}-idle": _read(device, part, settings.seconds) for part in READ_BYTES}
            with _writer(device, settings.seconds):
                for part in READ_BYTES:
                    values[f"{part}-busy"] = _read(device, part, settings.seconds, busy=True)
            for job, found in values.items():
                measurements.append(Measurement(job, device.name, number, found))
                tell(
                    f"busy {job} round {number + 1} {device.name}: "
                    f"p50 {found['clat_p50_us']:.0f} us, p99 {found['clat_p99_us']:.0f} us, "
                    f"p99.9 {found['clat_p999_us']:.0f} us, worst {found['clat_max_us']:.0f} us"
                )
    return SuiteResult(
        name="busy",
        baseline=BASELINE,
        compared=(),
        shown=(
            "iops",
            "clat_p50_us",
            "clat_p99_us",
            "clat_p999_us",
            "clat_max_us",
            "stores_per_s",
            "written_back_pages",
            "peak_outstanding_writebacks",
            "segments_cleaned",
            "tier_reads_per_read",
        ),
        peers={device.name: device.describe() for device in devices},
        settings={
            "rounds": settings.rounds,
            "seconds": settings.seconds,
            "range_bytes": RANGE_BYTES,
            "hot_bytes": HOT_BYTES,
            "writes_a_second": WRITES_A_SECOND,
            "device_bytes": _DEVICE_BYTES,
            "pool_limit_bytes": _POOL_BYTES,
        },
        notes=(
            f"hot: {HOT_BYTES // MIB} MiB that are in memory; mix: {RANGE_BYTES // MIB} MiB, "
            f"most of them on the backing file (pool of {_POOL_BYTES // MIB} MiB)",
            f"busy: beside {WRITES_A_SECOND} random overwrites a second of that range "
            "(stores_per_s is what came of it) and a rewrite of the hot pages once a second",
            "the counters are of the time that was measured; tier_reads_per_read has what the "
            "cleaner read in it",
        ),
        commands=[
            *(
                _READ.command(devices[0].path, size, settings.seconds)
                for size in READ_BYTES.values()
            ),
            writer_command(devices[0].path, settings.seconds),
        ],
        targets=(),
        limits=tuple(
            Limit("hot-busy", "clat_p999_us", peer, Sense.AT_MOST, MOST_P999_US) for peer in PEERS
        ),
        measurements=measurements,
    )


def _read(device: Fuseswap, part: str, seconds: float, busy: bool = False) -> dict[str, float]:
    """Read at depth 1.  Raises `HostError` where nothing left the pool although it should."""
    began = time.monotonic()
    with Sampler(device) as sampler:
        values = fio.run(_READ.command(device.path, READ_BYTES[part], seconds), seconds)
        spent = time.monotonic() - began
    written_back = sampler.delta("written_back_pages")
    if busy and not written_back:
        raise HostError(f"{device.name}: nothing was written back beside the reads of {part}")
    return {
        **values,
        "stores_per_s": sampler.delta("succ_stores") / spent,
        "written_back_pages": written_back,
        "peak_outstanding_writebacks": sampler.peak("outstanding_writebacks"),
        "segments_cleaned": sampler.delta("segments_cleaned"),
        "tier_reads_per_read": sampler.delta("bd_reads") / (values["iops"] * seconds),
    }


@contextlib.contextmanager
def _writer(device: Fuseswap, seconds: float) -> Iterator[None]:
    """Overwrite meanwhile, and for `_WARM_S` before.  Raises `HostError` where it ended early."""
    process = command.start(writer_command(device.path, seconds))
    try:
        time.sleep(_WARM_S)
        yield
        if process.poll() is not None:
            raise HostError(f"the writer on {device.path} ended early: {process.returncode}")
    finally:
        if process.poll() is None:
            command.stop(process)


def writer_command(path: str, seconds: float) -> list[str]:
    """Both jobs of the writer, for longer than they are needed."""
    enough = _WARM_S + len(READ_BYTES) * (seconds + 60)
    return fio.together(
        _OVERWRITE.command(
            path, RANGE_BYTES - HOT_BYTES, enough, offset_bytes=HOT_BYTES, rate=WRITES_A_SECOND
        ),
        _REFRESH.command(path, HOT_BYTES, enough, rate=HOT_BYTES // _HOT_BLOCK),
    )


def _settle(device: Fuseswap) -> None:
    """Wait until nothing leaves and nothing is cleaned.  Raises `HostError` where it goes on."""
    deadline = time.monotonic() + _SETTLE_TIMEOUT_S
    before = None
    while True:
        now = device.metrics()
        work = (now["bd_writes"], now["cleaner_copied_bytes"])
        if work == before and not now["outstanding_writebacks"]:
            return
        if time.monotonic() > deadline:
            raise HostError(f"{device.name} did not come to rest")
        before = work
        time.sleep(2.0)
