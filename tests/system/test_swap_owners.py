"""``ps``, ``out`` and ``in`` on a process whose pages are known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fuseswap.linux.process import swap_bytes
from fuseswap.units import MIB
from tests.support.mounted_devices import call, device_up, fuseswap_command, succeed, wait_until

# A third of its pages are the same-filled, a third has each content twice, a third is random.
HOLDER = """
import mmap, os, sys
third = 4096
held = mmap.mmap(-1, 3 * third << 12, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(third):
    held[page << 12 : page + 1 << 12] = b"fill" * 1024
    at = third + page
    held[at << 12 : at + 1 << 12] = (b"%8d" % (page // 2) + bytes(56)) * 64
    at += third
    held[at << 12 : at + 1 << 12] = os.urandom(4096)
before = hash(held[:])
print("ready", flush=True)
sys.stdin.readline()
print(hash(held[:]) == before, flush=True)
"""
THIRD = 4096


@contextmanager
def holder() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def is_whole(process: subprocess.Popen[str]) -> bool:
    printed, _ = process.communicate("\n", timeout=60)
    return printed == "True\n"


@pytest.fixture(scope="module", autouse=True)
def name() -> Iterator[str]:
    """None has a higher priority."""
    with device_up("--size", "2G", "--priority", "32767", "--pool-limit", "512M") as device:
        succeed("set", device.name, "dedup=on")
        yield device.name


def test_what_went_out_is_shown_by_process_and_by_cgroup(name: str) -> None:
    with holder() as process:
        printed = succeed("out", str(process.pid))
        assert "went out" in printed
        assert "fuseswap has" in printed
        assert swap_bytes(process.pid) > 40 * MIB
        (found,) = json.loads(succeed("ps", name, "--pid", str(process.pid), "--json"))["owners"]
        assert found["pid"] == process.pid
        pages = found["pages"]  # a part of them, where another device has the same priority
        assert 1024 <= pages <= 3 * THIRD + 4096
        random = pages - found["same_filled_pages"] - found["duplicate_pages"]
        for part in (found["same_filled_pages"], found["duplicate_pages"], random):
            assert 0.2 < part / pages < 0.5
        assert random * 3000 < found["memory_bytes"] < random * 5000
        assert found["elsewhere_pages"] < pages / 20, "on their way"
        assert found["tier_bytes"] == {}
        lines = succeed("ps").splitlines()
        assert lines[0].split()[:2] == ["PID", "SWAP"]
        assert any(line.split()[0] == str(process.pid) for line in lines[1:])
        assert "CGROUP" in succeed("ps", "--cgroup").splitlines()[0]
        assert is_whole(process)


def test_a_budget_for_what_goes_out() -> None:
    with holder() as process:
        succeed("out", str(process.pid), "--max", "10M")
        assert 9 * MIB < swap_bytes(process.pid) < 24 * MIB
        assert is_whole(process)


def test_what_is_on_its_way_is_waited_for(name: str) -> None:
    """The kernel says that a page is in swap before its device has it."""
    with holder() as process:
        worker = json.loads(succeed("status", name, "--json"))["worker_pid"]
        os.kill(worker, signal.SIGSTOP)
        try:
            with subprocess.Popen(fuseswap_command("out", str(process.pid), "--max", "4M")) as out:
                wait_until("pages to go out", lambda: swap_bytes(process.pid) >= 4 * MIB)
                time.sleep(0.3)
                assert out.poll() is None
                os.kill(worker, signal.SIGCONT)
        finally:
            os.kill(worker, signal.SIGCONT)
        (found,) = json.loads(succeed("ps", name, "--pid", str(process.pid), "--json"))["owners"]
        assert found["elsewhere_pages"] < found["pages"] / 20
        assert is_whole(process)


def test_what_is_brought_back_is_there_again(name: str) -> None:
    with holder() as process:
        succeed("out", str(process.pid))
        assert "came back" in succeed("in", str(process.pid))
        assert swap_bytes(process.pid) < MIB
        found = json.loads(succeed("ps", name, "--pid", str(process.pid), "--json"))["owners"]
        assert sum(one["pages"] for one in found) < 256
        assert is_whole(process)


def test_it_waits_until_memory_is_free() -> None:
    """More than there is: nothing comes back, and an end by the user is no fault."""
    with holder() as process:
        succeed("out", str(process.pid))
        before = swap_bytes(process.pid)
        command = [sys.executable, "-m", "fuseswap", "in", str(process.pid), "--when-free", "100%"]
        with subprocess.Popen(command) as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(3)
            waiting.terminate()
        assert swap_bytes(process.pid) >= before - MIB
        wait_until("it to end", lambda: waiting.poll() is not None)
        assert is_whole(process)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("out",), "give process ids, or --cgroup PATH"),
        (("out", "999999999"), "there is no process 999999999"),
        (("in", "1", "--cgroup", "/"), "give process ids, or --cgroup PATH"),
        (("out", "--cgroup", "/no/such"), "there is no memory cgroup '/no/such'"),
        (("ps", "--sort", "LUCK"), "there is no column 'LUCK'"),
        (("in", "1", "--when-free", "much"), "'much' is not a size"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], why: str) -> None:
    done = call(*arguments)
    assert done.returncode == 1
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
