"""``scripts/soak compare OTHER_TREE``: has the hot path become faster or slower?

fio with 4 KiB requests on the FUSE file of both trees, each up at the same time and measured
in turn, so that a change of the machine's speed meets both.
"""

from __future__ import annotations

from pathlib import Path

from fuseswap.units import KIB, MIB
from tests.benchmarks import command, fio
from tests.benchmarks.command import tell
from tests.benchmarks.io_run import RANGE_BYTES
from tests.benchmarks.peers import Fuseswap, prepared
from tests.benchmarks.results import Measurement, SuiteResult
from tests.benchmarks.suite import interleaved

HERE, THERE = "here", "there"

_DEVICE_BYTES = 512 * MIB
_FILL_TIMEOUT_S = 120.0
JOBS = tuple(job for job in fio.JOBS if job.block_bytes == 4 * KIB)


def _up_options(tree: Path) -> tuple[str, ...]:
    """Its processes are to be of that tree as well, which its path says; so they were once."""
    knows = "--testing" in (tree / "fuseswap/cli/up.py").read_text()
    return ("--testing",) if knows else ()


def compare(other: Path, rounds: int, seconds: float) -> SuiteResult:
    """``rounds`` of each job and tree.  Raises `HostError`."""
    trees = {HERE: command.ROOT, THERE: other}
    peers = [
        Fuseswap(f"soak-{name}", _DEVICE_BYTES, python_path=(tree,), up_options=_up_options(tree))
        for name, tree in trees.items()
    ]
    names = dict(zip(peers, trees, strict=True))
    measurements = []
    with prepared(peers):
        for peer in peers:
            fio.run(fio.fill_command(peer.path, RANGE_BYTES), _FILL_TIMEOUT_S)
        for job in JOBS:
            for number, peer in interleaved(rounds, peers):
                values = fio.run(job.command(peer.path, RANGE_BYTES, seconds), seconds)
                measurements.append(Measurement(job.name, names[peer], number, values))
                tell(f"{job.name} round {number + 1} {names[peer]}: {values['iops']:.0f} iops")
    return SuiteResult(
        name="compare",
        baseline=HERE,
        compared=("iops", "clat_p50_us"),
        shown=("iops", "clat_p50_us", "clat_p99_us"),
        peers={name: str(tree) for name, tree in trees.items()},
        settings={"rounds": rounds, "seconds": seconds},
        notes=("iops: above 1, this tree is faster; clat_p50_us: below 1, it is",),
        commands=(),
        targets=(),
        measurements=measurements,
    )
