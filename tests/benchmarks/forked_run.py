"""Job `fork-swap` of the suite `memory`: forked processes that are swapped out for real.

Three copies of a program's memory (`forked`) in a memory cgroup that has room for a quarter
of them.  When all have changed what they change, the swap area and its peer's memory are
looked at; then every page is read back and checked.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.linux.cgroup import MemoryCgroup
from fuseswap.units import MIB, PAGE_SIZE
from tests.benchmarks import command
from tests.benchmarks.page_sets import COPIES
from tests.benchmarks.peers import Peer
from tests.benchmarks.swap_run import active_area, lift_limit, used_bytes

_RESIDENT = 0.25  # of all copies
_STEP_TIMEOUT_S = 240.0
_POLL_S = 0.05


def measure(peer: Peer, data: Path) -> dict[str, float]:
    """One run, swapping to ``peer``.  Raises `HostError`, also where a page was bad."""
    size_bytes = COPIES * data.stat().st_size
    limit_bytes = int(size_bytes * _RESIDENT)
    with active_area(peer), MemoryCgroup("fuseswap-bench", limit_bytes) as cgroup:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.forked", str(data), str(COPIES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env=command.environment(),
            preexec_fn=cgroup.enter,
            start_new_session=True,
        )
        try:
            _expect(process, b"ready\n")
            swapped = used_bytes(peer.path)
            memory = peer.memory()
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            bad = json.loads(_expect(process, b"}\n"))["bad_pages"]
            process.wait(_STEP_TIMEOUT_S)
        except (subprocess.TimeoutExpired, BrokenPipeError) as exc:
            raise HostError(f"the forked processes on {peer.path} did not end") from exc
        finally:
            # Also where all went well: a copy is not a child of ours.
            _kill_all(process, cgroup, size_bytes)
    if bad:
        raise HostError(f"{bad} BAD PAGES read back from {peer.path}")
    pages = swapped / PAGE_SIZE
    return {
        "swapped_mib": swapped / MIB,
        "mem_used_mib": memory.used_bytes / MIB,
        "bytes_per_page": memory.used_bytes / pages,
        "compr_bytes_per_page": memory.compressed_bytes / pages,
        "duplicate_pages": memory.duplicate_pages,
    }


def _expect(process: subprocess.Popen[bytes], end: bytes) -> bytes:
    """What it says, up to ``end``.  Raises `HostError` where that does not come in time."""
    deadline = time.monotonic() + _STEP_TIMEOUT_S
    assert process.stdout is not None
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not said.endswith(end):
            if not selector.select(max(deadline - time.monotonic(), 0)):
                raise HostError("the forked processes did not get on; see dmesg")
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                raise HostError("the forked processes ended early; see dmesg")
            said += piece
    return said


def _kill_all(process: subprocess.Popen[bytes], cgroup: MemoryCgroup, size_bytes: int) -> None:
    """End the session, and wait until its cgroup is empty.

    Raises `HostError` where it stays; the cgroup has room for a swapoff then.
    """
    deadline = time.monotonic() + _STEP_TIMEOUT_S
    try:
        command.stop(process)
        while (cgroup.path / "cgroup.procs").read_text():
            if time.monotonic() > deadline:
                raise HostError("a forked process can't be killed: it hangs (see dmesg)")
            time.sleep(_POLL_S)
    except HostError:
        lift_limit(cgroup, 2 * size_bytes)
        raise
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
