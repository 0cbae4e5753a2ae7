"""``scripts/soak`` kills, counts, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuseswap.host import swap
from fuseswap.host.runtime import Runtime
from tests.devices import leftovers, run, wait_until

SMALL = ("--size", "192M", "--limit", "64M", "--pool-limit", "16M")
COMMAND = [sys.executable, "-m", "benchmarks.soak"]
CGROUPS = Path("/sys/fs/cgroup")


@contextmanager
def nothing_is_left() -> Iterator[None]:
    yield
    assert leftovers("soak", str(Runtime("soak").default_mountpoint)) == []
    assert swap.areas() == []
    assert not Path("/var/tmp/fuseswap-bench-soak.backing").exists()
    assert [*CGROUPS.glob("fuseswap-soak"), *CGROUPS.glob("memory/fuseswap-soak")] == []


def test_ten_seconds() -> None:
    with nothing_is_left():
        kills = ("--kills", "KILL,SEGV,exception", "--restarts")
        done = run([*COMMAND, "--seconds", "10", *SMALL, *kills])
        assert done.returncode == 0, done.stderr + done.stdout
        said = re.search(r"^restarts +(\d+)$", done.stdout, re.MULTILINE)
        assert said is not None
        assert int(said[1]) >= 3
        assert "bad pages        0 of" in done.stdout
        assert "SIGKILL" in done.stdout


def test_ended_in_the_middle() -> None:
    with nothing_is_left():
        process = subprocess.Popen(
            [*COMMAND, "--seconds", "60", *SMALL], stderr=subprocess.DEVNULL, cwd="/"
        )
        try:
            wait_until("the swap to be used", is_used, timeout_s=60.0)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
        assert process.returncode == 128 + signal.SIGINT


def is_used() -> bool:
    return any(area.used_bytes for area in swap.areas())
