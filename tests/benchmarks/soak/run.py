"""The soak: a process in a memory cgroup, a worker that dies, and what became of the pages.

    up -> mkswap, swapon -> pressure, with kills and looks at the statistics -> swapoff -> down

The statistics are read in a thread, since they wait for a worker as everybody does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.linux.cgroup import MemoryCgroup
from fuseswap.sizes import format_size
from fuseswap.units import MIB
from tests.benchmarks import command, swap_run
from tests.benchmarks.command import tell
from tests.benchmarks.peers import Fuseswap, prepared
from tests.benchmarks.soak import record
from tests.benchmarks.soak.kills import INJECT, Shooter

NAME = "soak"
NO_BACKING = "none"
LAYOUTS = ("packed", "in-place", NO_BACKING)

_LOOK_EVERY_S = 0.3
_POLL_S = 0.05
_TELL_EVERY_S = 10.0
# Nothing is touched for so long, whatever the watchdog and the disk take: it hangs.
_HANGS_AFTER_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for.  The device is twice as large as the process."""

    seconds: float
    size_bytes: int
    limit_bytes: int
    pool_limit_bytes: int
    layout: str
    kinds: Sequence[str]
    up_options: Sequence[str]
    parameters: Mapping[str, str]
    pause_s: tuple[float, float]
    seed: int

    def device(self) -> Fuseswap:
        """The device, not up yet."""
        device_bytes = 2 * self.size_bytes
        has_backing = self.layout != NO_BACKING
        return Fuseswap(
            NAME,
            device_bytes,
            loop=True,
            pool_limit_bytes=self.pool_limit_bytes,
            backing_bytes=device_bytes if has_backing else 0,
            layout=self.layout if has_backing else "packed",
            up_options=(*self.up_options, "--testing"),  # for `INJECT`
            parameters=self.parameters,
            python_path=(INJECT, command.ROOT),
        )

    def pressure(self) -> list[str]:
        """What runs in the cgroup."""
        return [
            sys.executable, "-m", "fuseswap.cli.pressure", "--size", str(self.size_bytes),
            "--seconds", str(self.seconds), "--seed", str(self.seed),
        ]  # fmt: skip


def soak(plan: Plan) -> record.Outcome:
    """One soak, from nothing to nothing.  Raises `HostError`."""
    device = plan.device()
    runtime = Runtime(NAME)
    mark = f"fuseswap soak begins at {time.time_ns()}"
    Path("/dev/kmsg").write_text(mark + "\n")
    with prepared([device]), swap_run.active_area(device):
        shooter = Shooter(runtime, plan.kinds, plan.seed, plan.pause_s)
        with _looks(device) as totals:
            returncode, end = _press(plan, shooter)
        totals.add(device.metrics())
        return record.Outcome(
            limit_bytes=plan.pool_limit_bytes,
            restarts=runtime.state().restarts,
            totals=totals,
            sent=shooter.sent,
            deaths=record.deaths_in(runtime.log_path.read_text()),
            returncode=returncode,
            end=end,
            kernel_errors=record.kernel_errors(command.run(("dmesg",)), mark),
        )


@contextlib.contextmanager
def _looks(device: Fuseswap) -> Iterator[record.Totals]:
    """Look at the statistics again and again, as long as the block lasts."""
    totals = record.Totals()
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_EVERY_S):
            # No worker for a while, or one that died in the middle of its answer.
            with contextlib.suppress(HostError, ValueError):
                totals.add(device.metrics())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield totals
    finally:
        over.set()
        thread.join()


def _press(plan: Plan, shooter: Shooter) -> tuple[int, dict[str, Any] | None]:
    """Exit code and last line of the process under pressure.  Raises `HostError` where it hangs."""
    with (
        MemoryCgroup(f"fuseswap-{NAME}", plan.limit_bytes) as cgroup,
        tempfile.TemporaryFile() as output,
    ):
        process = command.begin_in(cgroup, plan.pressure(), output)
        try:
            _shoot_until_it_ends(process, shooter, output)
        finally:
            if process.poll() is None:
                command.stop(process)
        return process.returncode, _last_line(output, "end")


def _shoot_until_it_ends(
    process: subprocess.Popen[bytes], shooter: Shooter, output: IO[bytes]
) -> None:
    said = 0
    heard = told = time.monotonic()
    while process.poll() is None:
        shooter.shoot_if_due()
        now = time.monotonic()
        size = os.fstat(output.fileno()).st_size
        if size != said:
            said, heard = size, now
        elif now - heard > _HANGS_AFTER_S:
            raise HostError(f"no page was touched for {_HANGS_AFTER_S:.0f} s: it hangs (see dmesg)")
        if now - told > _TELL_EVERY_S:
            told = now
            line = _last_line(output) or {}
            phase, done = line.get("phase", "start"), line.get("done", 0.0)
            tell(f"{phase} {done:.0%}, bad pages {line.get('bad_pages', 0)}, sent {shooter.sent}")
        time.sleep(_POLL_S)


def _last_line(output: IO[bytes], phase: str | None = None) -> dict[str, Any] | None:
    """The last whole line, None where there is none, or none of ``phase``."""
    fd = output.fileno()  # shared with the child, and so is its position: pread
    lines = os.pread(fd, os.fstat(fd).st_size, 0).split(b"\n")[:-1]
    last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return last if last and phase in (None, last["phase"]) else None


def describe(plan: Plan) -> str:
    """One line."""
    return (
        f"a process of {format_size(plan.size_bytes)} in a memory cgroup of "
        f"{plan.limit_bytes // MIB} MiB for {plan.seconds:g} s, pool of "
        f"{format_size(plan.pool_limit_bytes)}, layout {plan.layout}, seed {plan.seed}"
    )
