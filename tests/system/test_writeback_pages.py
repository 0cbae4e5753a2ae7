"""``fuseswap writeback --pid`` and ``--cgroup``: of two processes one goes to the tier."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fuseswap.linux.process import cgroup_of, swap_bytes
from fuseswap.units import MIB
from tests.support.mounted_devices import TestDevice, call, device_up, succeed

# Each has contents of its own, which compress to a third or so.  It verifies them when told to.
HOLDER = """
import hashlib, mmap, random, sys
draw = random.Random(int(sys.argv[1]))
pages = 4096
held = mmap.mmap(-1, pages << 12, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for page in range(pages):
    held[page << 12 : page + 1 << 12] = draw.randbytes(1365) * 3 + b"x"
before = hashlib.sha256(held).digest()
print("ready", flush=True)
sys.stdin.readline()
print(hashlib.sha256(held).digest() == before, flush=True)
"""
PAGES = 4096


@contextmanager
def holder(seed: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(seed)]
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


def use_of(name: str, process: subprocess.Popen[str]) -> dict[str, dict[str, int]]:
    (found,) = json.loads(succeed("ps", name, "--pid", str(process.pid), "--json"))["owners"]
    assert isinstance(found, dict)
    return found


@pytest.fixture(params=["packed", "in-place"])
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestDevice]:
    """None has a higher priority."""
    backing = ("--backing", str(tmp_path / "backing"), "--backing-layout", request.param)
    with device_up("--size", "512M", "--priority", "32767", *backing) as up:
        yield up


def test_one_of_two_is_written_back(device: TestDevice) -> None:
    """They were swapped out in turns, so their pages lie beside each other in the segments."""
    name = device.name
    with holder(1) as one, holder(2) as other:
        for budget in range(2, 34, 2):
            for process in (one, other):
                if swap_bytes(process.pid) < budget * MIB:
                    succeed("out", str(process.pid), "--max", "2M")
        for process in (one, other):
            succeed("out", str(process.pid))
            assert swap_bytes(process.pid) > 15 * MIB
        nothing = json.loads(
            succeed("writeback", name, "--pid", str(one.pid), "--idle", "3600", "--json")
        )
        assert (nothing["pages"], nothing["written_bytes"]) == (0, 0)
        printed = succeed("writeback", name, "--pid", str(one.pid), "--json")
        done = json.loads(printed)
        assert done["pages"] > 0.9 * PAGES
        assert done["tier_pages"] == {"backing_file": done["pages"]}
        assert done["left_pages"] == 0
        assert done["written_bytes"] >= done["pages"] * 1000
        ours, theirs = use_of(name, one), use_of(name, other)
        taken = ours["tier_bytes"]["backing_file"]
        assert taken > 0.9 * PAGES * 1365
        beside = theirs["tier_bytes"].get("backing_file", 0)
        assert beside < taken / 100, "what both have, as pages of Python itself"
        assert f"{theirs['memory_bytes']}" != "0"
        said = succeed("writeback", name, "--cgroup", cgroup_of(other.pid) or "/", "--max", "1M")
        assert " moved: " in said
        assert beside < use_of(name, other)["tier_bytes"]["backing_file"] <= beside + 4 * MIB
        assert is_whole(one)
        assert is_whole(other)
    assert device.stat("checksum_errors") == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--pid", "999999999"), "there is no process 999999999"),
        (("--pid", "x"), "'x' is not a whole number"),
        (("--cgroup", "/no/such"), "there is no memory cgroup '/no/such'"),
        (("--pid", "1", "--cgroup", "/"), "not allowed with argument --pid"),
        (("--pid", "1", "--max", "lots"), "'lots' is not a size"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], why: str) -> None:
    done = call("writeback", *arguments)
    assert done.returncode == 1
    assert why in done.stderr
