"""``fuseswap run``: the command's own output and code, and nothing left of what was made for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fuseswap.daemon.runtime_dir import Runtime, all_devices
from tests.support.mounted_devices import COMMAND_TIMEOUT_S, call, wait_until

# 48 MiB of pages that compress, in 24 MiB; then what it was given, and a code of its own.
HUNGRY = """
import sys
pages = [b"%8d" % number * 64 + bytes(3500) for number in range(12000)]
assert all(int(page[:8]) == number for number, page in enumerate(pages))
print(sys.stdin.read())
sys.exit(7)
"""


def left() -> list[str]:
    """Devices, cgroups and swap areas that `run` has made."""
    devices = [runtime.name for runtime in all_devices() if runtime.name.startswith("run-")]
    cgroups = [str(path) for path in Path("/sys/fs/cgroup").glob("**/fuseswap-run-*")]
    return devices + cgroups


def run_command(*options: str) -> list[str]:
    return [sys.executable, "-m", "fuseswap", "run", "--size", "256M", "--memory", *options]


def test_output_input_and_code_are_the_commands_own() -> None:
    command = run_command("24M", "--", sys.executable, "-c", HUNGRY)
    done = subprocess.run(
        command, input="given", capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
    )
    assert (done.returncode, done.stdout) == (7, "given\n"), done.stderr
    needed, took = done.stderr.splitlines()[-2:]
    assert ": needed up to " in needed
    assert "took up to 24M, and " in took
    assert left() == []


def test_a_signal_is_passed_on_and_told() -> None:
    with subprocess.Popen(run_command("24M", "--", "sleep", "1000")) as process:
        wait_until("the command to run", lambda: is_running(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(COMMAND_TIMEOUT_S) == 128 + signal.SIGTERM
    assert left() == []


def is_running(pid: int) -> bool:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return any(Path(f"/proc/{child}/comm").read_text() == "sleep\n" for child in children)


def test_killed_it_leaves_nothing() -> None:
    with subprocess.Popen(run_command("24M", "--", "sleep", "1000")) as process:
        wait_until("the command to run", lambda: is_running(process.pid))
        device = Runtime(f"run-{process.pid}")
        assert device.exists()
        process.kill()
        process.wait(COMMAND_TIMEOUT_S)
    wait_until("everything to go", lambda: left() == [], COMMAND_TIMEOUT_S)


def test_what_it_left_running_is_ended() -> None:
    """A process that outlives the command would keep its pages in a swap that goes."""
    marker = f"{1000000 + os.getpid()}"
    command = run_command("24M", "--", "sh", "-c", f"sleep {marker} >/dev/null 2>&1 &")
    subprocess.run(command, check=True, timeout=COMMAND_TIMEOUT_S)
    time.sleep(0.1)
    assert subprocess.run(["pgrep", "-f", f"sleep {marker}"], capture_output=True).stdout == b""
    assert left() == []


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("run", "--memory", "1K", "--", "true"), 1, "--memory 1K is less than 4M"),
        (("run", "--memory", "64M"), 1, "required"),
        (("run", "--", "true"), 1, "--memory"),
        (("run", "--memory", "24M", "--", "no-such-command"), 127, "there is no command"),
        (("run", "--memory", "24M", "--", "/etc/passwd"), 126, "Permission denied"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], code: int, why: str
) -> None:
    done = call(*arguments)
    assert done.returncode == code
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert left() == []
