"""Suite `memory`: the same pages of real programs in each peer, and what they take there.

    for each job: all peers prepared -> store, look at the memory, verify, in turn
                  -> random reads at depth 1, in slices that go round the peers

The pages are of a corpus (`scripts/corpus`), which is made where there is none.  What is
stored is the same each time, so it is stored once; rounds are of the reads.  Every page is
read back and compared: a bad one fails the benchmark.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.units import GIB, MIB, PAGE_SIZE
from tests.benchmarks import command, corpus, forked_run, page_io, page_sets
from tests.benchmarks.awake import awake
from tests.benchmarks.command import tell
from tests.benchmarks.corpus_programs import PROGRAMS
from tests.benchmarks.peers import DISK, Fuseswap, Peer, Zram, prepared
from tests.benchmarks.results import Limit, Measurement, Sense, SuiteResult
from tests.benchmarks.suite import BASELINE, PeerFactory, Settings

ZRAM = "zram"
ZSTD = "fuseswap-zstd"
RECOMPRESSED = "fuseswap-recompressed"
DEDUP = "fuseswap-dedup"
LOOP = "fuseswap-loop"
DEDUP_LOOP = "fuseswap-dedup-loop"
SWAPPED = "fork-swap"

_IO_TIMEOUT_S = 300.0
_RECOMPRESS_TIMEOUT_S = 900.0
_STEADY_S = 2.0  # emptied segments go back a few a second
_STEADY_TIMEOUT_S = 60.0
_SECONDS_A_READ = 1e-3  # a bound

# Which peers a job is for; those of them that are wanted are measured.
JOBS: Mapping[str, Sequence[str]] = {
    "unique": (BASELINE, ZSTD, RECOMPRESSED, ZRAM),
    "all": (BASELINE, ZSTD, RECOMPRESSED, ZRAM),
    "fork": (BASELINE, DEDUP, ZRAM),
    SWAPPED: (LOOP, DEDUP_LOOP, ZRAM),
}
_TIMED = ("unique",)
_OVER_LZ4 = {"p50_over_lz4_us": "read_p50_us", "awake_p50_over_lz4_us": "awake_p50_us"}


class Recompressed(Fuseswap):
    """lz4 pages, all compressed again once they are stored."""

    def settle(self) -> None:
        """`fuseswap recompress`, and wait until the segments it emptied are given back."""
        self._fuseswap("recompress", self.name, timeout_s=_RECOMPRESS_TIMEOUT_S)
        deadline = time.monotonic() + _STEADY_TIMEOUT_S
        before = None
        while (now := self.memory().used_bytes) != before:
            if time.monotonic() > deadline:
                raise HostError(f"the memory of {self.name} did not come to rest")
            before = now
            time.sleep(_STEADY_S)

    def describe(self) -> str:
        """That it is recompressed."""
        return f"{super().describe()}, then fuseswap recompress"


def _device(
    name: str, compressor: str = "lz4", *, loop: bool = False, **parameters: str
) -> Fuseswap:
    kind = Recompressed if name == RECOMPRESSED else Fuseswap
    # Nothing is recompressed but what is asked to be.
    parameters = {"recompress_age_seconds": "0", **parameters}
    return kind(name, GIB, loop=loop, compressor=compressor, parameters=parameters)


PEERS: Mapping[str, PeerFactory] = {
    BASELINE: lambda: _device(BASELINE),
    ZSTD: lambda: _device(ZSTD, "zstd:1"),
    RECOMPRESSED: lambda: _device(RECOMPRESSED),
    DEDUP: lambda: _device(DEDUP, dedup="on"),
    LOOP: lambda: _device(LOOP, loop=True),
    DEDUP_LOOP: lambda: _device(DEDUP_LOOP, loop=True, dedup="on"),
    ZRAM: lambda: Zram(ZRAM, GIB),
}

LIMITS = (
    Limit("unique", "of_zram", BASELINE, Sense.AT_MOST, 0.98),
    Limit("unique", "of_zram", ZSTD, Sense.AT_MOST, 0.70),
    Limit("unique", "of_zram", RECOMPRESSED, Sense.AT_MOST, 0.62),
    Limit("unique", "awake_p50_over_lz4_us", RECOMPRESSED, Sense.AT_MOST, 6.0),
)


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    data: Path
    pages: int


def run(settings: Settings, peers: Sequence[Peer]) -> SuiteResult:
    """Store, verify and time job by job; tear all down.  Raises `HostError`."""
    if not corpus.files(settings.corpus):
        tell(f"no corpus in {settings.corpus}: making one")
        list(corpus.make(settings.corpus, list(PROGRAMS.values())))
    files = corpus.files(settings.corpus)
    measurements: list[Measurement] = []
    counts = {}
    with tempfile.TemporaryDirectory(prefix="fuseswap-bench-", dir=DISK) as directory:
        for name, names in JOBS.items():
            chosen = [peer for peer in peers if peer.name in names]
            if not chosen:
                continue
            if name == SWAPPED:
                measurements += _swap(page_sets.one_program(files), chosen)
                continue
            data = Path(directory) / name
            job = _Job(name, data, page_sets.write(name, files, data))
            counts[name] = job.pages
            measurements += _measure(job, chosen, settings)
            data.unlink()
    return SuiteResult(
        name="memory",
        baseline=BASELINE,
        compared=(),
        shown=(
            "swapped_mib",
            "mem_used_mib",
            "bytes_per_page",
            "of_zram",
            "compr_bytes_per_page",
            "duplicate_pages",
            "read_p50_us",
            "read_p99_us",
            "p50_over_lz4_us",
            "awake_p50_us",
            "awake_p50_over_lz4_us",
        ),
        peers={peer.name: peer.describe() for peer in peers},
        settings={
            "rounds": settings.rounds,
            "reads": settings.reads,
            "pages": counts,
            "corpus": {path.stem: path.stat().st_size // PAGE_SIZE for path in files},
            "device_bytes": GIB,
        },
        notes=(
            "unique: pages that are not same-filled, each once; all: all of them; fork: "
            f"{page_sets.COPIES} copies of a program, {page_sets.CHANGED:.0%} of each changed; "
            f"{SWAPPED}: the same as processes, swapped out, by page in the swap area",
            "mem_used: mem_used_total of each; zram's leaves its slot table out, 16 bytes a page "
            f"of its size ({GIB // PAGE_SIZE * 16 // MIB} MiB here), ours has it in",
            f"reads: 4 KiB, direct, depth 1, at random; {settings.reads} a round, "
            f"in slices of {page_io.SLICE_READS}; awake: the same once more with processors "
            "that never sleep, since waking one costs more than a page",
        ),
        commands=[],
        limits=LIMITS,
        targets=(),
        measurements=measurements,
    )


def _measure(job: _Job, peers: Sequence[Peer], settings: Settings) -> list[Measurement]:
    with prepared(peers):
        stored = {}
        for peer in peers:
            tell(f"memory {job.name}: storing {job.pages} pages in {peer.name}")
            stored[peer.name] = _store(job, peer)
        if job.name not in _TIMED:
            values = with_ratios(stored)
            return [Measurement(job.name, name, 0, found) for name, found in values.items()]
        measurements = []
        for number in range(settings.rounds):
            rotated = [*peers[number % len(peers) :], *peers[: number % len(peers)]]
            times = _time_reads(rotated, job, settings.reads, seed=number)
            with awake():
                quick = _time_reads(rotated, job, settings.reads, seed=number)
            for name, found in quick.items():
                times[name]["awake_p50_us"] = found["read_p50_us"]
            values = with_ratios({name: {**stored[name], **times[name]} for name in stored})
            for name, found in values.items():
                measurements.append(Measurement(job.name, name, number, found))
                tell(
                    f"memory {job.name} round {number + 1} {name}: "
                    f"{found['bytes_per_page']:.0f} bytes a page, "
                    f"p50 {found['read_p50_us']:.1f} us, p99 {found['read_p99_us']:.1f} us"
                )
        return measurements


def _swap(data: Path, peers: Sequence[Peer]) -> list[Measurement]:
    found = {}
    with prepared(peers):
        for peer in peers:
            tell(f"memory {SWAPPED}: three processes of {data.stem} on {peer.name}")
            found[peer.name] = forked_run.measure(peer, data)
    return [Measurement(SWAPPED, name, 0, values) for name, values in with_ratios(found).items()]


def _store(job: _Job, peer: Peer) -> dict[str, float]:
    run_page_io("write", peer.path, str(job.data))
    peer.settle()
    memory = peer.memory()
    run_page_io("verify", peer.path, str(job.data))
    return {
        "mem_used_mib": memory.used_bytes / MIB,
        "bytes_per_page": memory.used_bytes / job.pages,
        "compr_bytes_per_page": memory.compressed_bytes / job.pages,
        "duplicate_pages": memory.duplicate_pages,
    }


def with_ratios(stored: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Values by peer, with what they are of zram's and over fuseswap's, where those are there."""
    found = {name: dict(values) for name, values in stored.items()}
    for values in found.values():
        if ZRAM in stored:
            values["of_zram"] = values["bytes_per_page"] / stored[ZRAM]["bytes_per_page"]
        for over, metric in _OVER_LZ4.items():
            if metric in values and BASELINE in stored:
                values[over] = values[metric] - stored[BASELINE][metric]
    return found


def _time_reads(
    peers: Sequence[Peer], job: _Job, reads: int, seed: int
) -> dict[str, dict[str, float]]:
    output = run_page_io(
        "time", str(reads), str(seed), str(job.pages * PAGE_SIZE), *(peer.path for peer in peers),
        timeout_s=_IO_TIMEOUT_S + reads * len(peers) * _SECONDS_A_READ,
    )  # fmt: skip
    lines = output.splitlines()
    if len(lines) != len(peers):
        raise HostError("the reads were not timed")
    return {
        peer.name: percentiles(json.loads(line)) for peer, line in zip(peers, lines, strict=True)
    }


def percentiles(nanoseconds: Sequence[int]) -> dict[str, float]:
    """Of at least two reads."""
    cuts = statistics.quantiles(nanoseconds, n=100, method="inclusive")
    return {"read_p50_us": cuts[49] / 1e3, "read_p99_us": cuts[98] / 1e3}


def run_page_io(*arguments: str, timeout_s: float = _IO_TIMEOUT_S) -> str:
    """What ``page_io`` prints.  Raises `HostError`."""
    line = (sys.executable, "-m", "tests.benchmarks.page_io", *arguments)
    return command.run(line, timeout_s=timeout_s)
