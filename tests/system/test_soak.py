"""``scripts/soak`` kills, counts, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import swap_area
from fuseswap.linux.protect import read_status_kib
from tests.support.mounted_devices import leftovers, run, taken_down, wait_until

SMALL = ("--size", "192M", "--limit", "64M", "--pool-limit", "16M")
COMMAND = [sys.executable, "-m", "tests.benchmarks.soak"]
CGROUPS = Path("/sys/fs/cgroup")


def cgroups() -> list[Path]:
    return [*CGROUPS.glob("fuseswap-soak"), *CGROUPS.glob("memory/fuseswap-soak")]


@contextmanager
def nothing_is_left() -> Iterator[None]:
    with taken_down("soak"):  # where it did leave something, the next test shall not meet it
        yield
        assert leftovers("soak", str(Runtime("soak").default_mountpoint)) == []
        assert swap_area.areas() == []
        assert not Path("/var/tmp/fuseswap-bench-soak.backing").exists()
        assert cgroups() == []


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
            wait_until("its process to be swapped out", is_swapped_out, timeout_s=120.0)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)
        assert process.returncode == 128 + signal.SIGINT


def is_swapped_out() -> bool:
    """Of the swap alone one can't tell: others' pages are in it from the start."""
    found = 0
    with suppress(OSError):  # not there yet
        for cgroup in cgroups():
            for pid in (cgroup / "cgroup.procs").read_text().split():
                found += read_status_kib(f"/proc/{pid}", "VmSwap")
    return found > 0
