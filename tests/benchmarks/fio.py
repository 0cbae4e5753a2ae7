"""Jobs as fio commands, and fio's JSON as numbers.

Direct I/O through libaio on a range that was filled before, so that reads decompress.
The same seed for every peer (fio's default), no map of visited blocks (the range is
passed over many times).  ``--allow_file_create=0``: were a mount gone, fio would make
an ordinary file in its place and measure the root disk.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fuseswap.errors import HostError
from fuseswap.units import KIB, MIB
from tests.benchmarks import command

COMPRESS_PERCENT = 60  # of every buffer is zeros, the rest random: lz4 stores 42 %, zstd 41 %
DATA_OPTIONS = (f"--buffer_compress_percentage={COMPRESS_PERCENT}", "--refill_buffers")
_GRACE_S = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """One access pattern; ``pattern`` is fio's ``rw``, ``depth`` the requests in flight."""

    pattern: str
    block_bytes: int
    depth: int

    @property
    def name(self) -> str:
        """Such as ``randread-4k-qd32``."""
        small = self.block_bytes < MIB
        size = f"{self.block_bytes // KIB}k" if small else f"{self.block_bytes // MIB}m"
        return f"{self.pattern}-{size}-qd{self.depth}"

    def command(
        self, path: str, range_bytes: int, seconds: float, *, offset_bytes: int = 0, rate: int = 0
    ) -> list[str]:
        """Repeat the pattern over ``range_bytes`` of ``path``, from ``offset_bytes`` on.

        For ``seconds``; at most ``rate`` requests a second, 0: as many as it takes.
        """
        return [
            *_base(self, path, range_bytes),
            f"--offset={offset_bytes}",
            "--time_based",
            f"--runtime={seconds:g}",
            "--norandommap",
            *([f"--rate_iops={rate}"] if rate else []),
        ]


JOBS = (
    Job("randread", 4 * KIB, 1),
    Job("randwrite", 4 * KIB, 1),
    Job("randread", 4 * KIB, 32),
    Job("randwrite", 4 * KIB, 32),
    Job("read", MIB, 4),
    Job("write", MIB, 4),
)


def fill_command(path: str, range_bytes: int) -> list[str]:
    """Write the range once, from start to end."""
    return _base(Job("write", MIB, 4), path, range_bytes)


def together(*commands: list[str]) -> list[str]:
    """One fio process that runs the jobs of all, at the same time."""
    return ["fio", *(option for line in commands for option in line[1:])]


def _base(job: Job, path: str, range_bytes: int) -> list[str]:
    return [
        "fio",
        f"--name={job.name}",
        f"--filename={path}",
        "--allow_file_create=0",
        "--ioengine=libaio",
        "--direct=1",
        f"--rw={job.pattern}",
        f"--bs={job.block_bytes}",
        f"--iodepth={job.depth}",
        f"--size={range_bytes}",
        *DATA_OPTIONS,
        "--output-format=json",
    ]


def run(arguments: list[str], seconds: float) -> dict[str, float]:
    """Run a fio command that takes about ``seconds``; see `parse`.  Raises `HostError`."""
    return parse(command.run(arguments, timeout_s=seconds + _GRACE_S))


def parse(text: str) -> dict[str, float]:
    """The numbers of the only job in fio's JSON output.  Raises `HostError`.

    ``iops``, ``mib_per_s``, and latencies in microseconds: ``lat_mean_us`` from submission
    on, and of the completion alone ``clat_mean_us``, ``clat_p50_us``, ``clat_p99_us``,
    ``clat_p999_us``, ``clat_max_us``.
    """
    try:
        job: dict[str, Any] = json.loads(text[text.index("{") :])["jobs"][0]  # notes come before
        if job["error"]:
            raise HostError(f"fio job {job['jobname']} met error {job['error']}")
        side = job["read"] if job["read"]["total_ios"] else job["write"]
        latency = side["clat_ns"]
        return {
            "iops": float(side["iops"]),
            "mib_per_s": side["bw_bytes"] / MIB,
            "lat_mean_us": side["lat_ns"]["mean"] / 1e3,
            "clat_mean_us": latency["mean"] / 1e3,
            "clat_p50_us": latency["percentile"]["50.000000"] / 1e3,
            "clat_p99_us": latency["percentile"]["99.000000"] / 1e3,
            "clat_p999_us": latency["percentile"]["99.900000"] / 1e3,
            "clat_max_us": latency["max"] / 1e3,
        }
    except (ValueError, KeyError, IndexError) as exc:
        raise HostError(f"fio's output is not what fio 3 writes ({exc!r})") from exc
