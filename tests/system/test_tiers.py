"""Tiers come, get empty and go under pressure, and whoever dies meanwhile: no bad page."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.units import MIB
from tests.support.mounted_devices import (
    TestDevice,
    call,
    device_up,
    must,
    new_name,
    processes_of,
    succeed,
    taken_down,
    wait_until,
)
from tests.system.hard_times import send_worker
from tests.system.under_pressure import Pressure, pressure_on

SIZE = 128 * MIB
MEMORY = 48 * MIB
UP = ("--size", "1G", "--pool-limit", "16M", "--priority", "32767")


@contextmanager
def under(device: TestDevice) -> Iterator[Pressure]:
    with pressure_on(device, SIZE, MEMORY) as pressure:
        yield pressure


def tiers(name: str) -> dict[str, dict[str, Any]]:
    """What ``fuseswap tier list`` knows, by tier."""
    found = json.loads(succeed("tier", "list", "-d", name, "--json"))
    return {tier["name"]: tier for tier in found}


def wait_for_segments(device: TestDevice, tier: str, least: int = 3) -> None:
    wait_until(f"{least} segments on {tier}", lambda: device.stat(f"tier_segments.{tier}") >= least)


def kill_supervisor(name: str) -> None:
    """And have `up` give the device another."""
    pid = Runtime(name).state().supervisor_pid
    os.kill(pid, signal.SIGKILL)
    wait_until("its end", lambda: pid not in processes_of(name))
    succeed("up", name)


def test_they_come_and_go_under_pressure(tmp_path: Path) -> None:
    first = ("--tier", f"file:{tmp_path}/first,name=first")
    with device_up(*UP, *first) as device, under(device) as pressure:
        name = device.name
        wait_for_segments(device, "first")
        succeed("tier", "add", "-d", name, f"file:{tmp_path}/second,name=second,priority=9")
        assert list(tiers(name)) == ["second", "first"], "by priority"
        wait_for_segments(device, "second")
        send_worker(name, signal.SIGKILL)
        wait_until("the second to be read", lambda: tiers(name)["second"]["read_bytes"] > MIB)

        succeed("tier", "drain", "-d", name, "first")
        assert tiers(name)["first"]["segments"] == 0
        succeed("tier", "remove", "-d", name, "first")
        assert not (tmp_path / "first").exists()

        kill_supervisor(name)
        add = ("tier", "add", "-d", name, f"file:{tmp_path}/third,name=third,priority=10")
        assert "first: fuseswap restart" in call(*add).stderr
        succeed("restart", name)
        succeed(*add)
        wait_for_segments(device, "third")
        kill_supervisor(name)
        send_worker(name, signal.SIGKILL)
        succeed("restart", name)
        assert list(tiers(name)) == ["third", "second"]
        wait_for_segments(device, "third")

        succeed("tier", "remove", "--drain", "-d", name, "third")
        assert pressure.finish()["bad_pages"] == 0
        for counter in ("checksum_errors", "tier_read_errors"):
            assert device.stat(counter) == 0
        assert (tmp_path / "second").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_device_without_one_gets_one_under_pressure(tmp_path: Path) -> None:
    """The worker is replaced by one that encrypts; pages leave memory that had no room."""
    without = ("--size", "1G", "--pool-limit", "128M", "--priority", "32767")
    with device_up(*without) as device, under(device) as pressure:
        done = call("tier", "add", "-d", device.name, f"file:{tmp_path}/late,limit=100M,priority=7")
        assert done.returncode == 0, done.stderr
        assert "replaced by" in done.stderr, "the first worker could not encrypt"
        assert device.status()["restarts"] == 1
        assert tiers(device.name)["file0"]["priority"] == 7
        succeed("set", device.name, "pool_limit_bytes=16M")
        wait_for_segments(device, "file0")
        send_worker(device.name, signal.SIGKILL)
        wait_until("it to be read", lambda: tiers(device.name)["file0"]["read_bytes"] > MIB)
        assert tiers(device.name)["file0"]["limit_bytes"] == 100 * MIB
        assert pressure.finish()["bad_pages"] == 0
        assert device.stat("checksum_errors") == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.no_swap
@pytest.mark.parametrize("transport", ["pyfuse3"])
def test_the_other_transport_takes_them_too(tmp_path: Path, transport: str) -> None:
    with device_up("--size", "64M", "--no-swapon", transport=transport) as device:
        succeed("tier", "add", "-d", device.name, f"file:{tmp_path}/a,size=20M,encrypt=no")
        assert tiers(device.name)["file0"]["state"] == "active"
        succeed("tier", "remove", "-d", device.name, "file0")
        assert tiers(device.name) == {}
        refused = call("tier", "add", "-d", device.name, f"file:{tmp_path}/a,size=20M")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
        assert "encrypt=no" in refused.stderr
        assert tiers(device.name) == {}
        assert list(tmp_path.iterdir()) == []


@pytest.mark.no_swap
def test_a_block_device(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 40 * MIB)
    disk = must("losetup", "--find", "--show", str(image)).strip()
    try:
        with device_up("--size", "64M", "--no-swapon") as device:
            succeed("tier", "add", "-d", device.name, f"block:{disk}")
            assert tiers(device.name)["block0"]["size_bytes"] == 37 * MIB, (
                "each MiB takes a page more"
            )
            refused = call("up", new_name(), "--size", "64M", "--tier", f"block:{disk}")
            assert refused.returncode == 32
            assert len(refused.stderr.splitlines()) == 1
        assert not any(image.read_bytes())
    finally:
        must("losetup", "--detach", disk)


@pytest.mark.no_swap
def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"wanted" * 2 * MIB)
    with device_up("--size", "64M", "--no-swapon", "--tier", f"file:{tmp_path}/a") as device:
        add = ("tier", "add", "-d", device.name)
        for spec, code, says in (
            (f"file:{tmp_path}/data", 2, "holds data"),
            (f"file:{tmp_path}/a", 2, "in use"),
            (f"file:{tmp_path}/b,name=file0", 1, "already"),
            (f"block:{tmp_path}/b", 1, "no block device"),
            (f"file:{tmp_path}/no/b", 2, "cannot open"),
        ):
            done = call(*add, spec)
            assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
            assert says in done.stderr
        assert list(tiers(device.name)) == ["file0"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "data"]
    name = new_name()
    with taken_down(name):
        up = ("up", name, "--size", "64M", "--no-swapon", "--tier", f"file:{tmp_path}/a")
        done = call(*up, "--tier", f"file:{tmp_path}/data")
        assert done.returncode == 32
        assert "holds data" in done.stderr
        done = call(*up, "--backing-layout", "in-place", "--backing", f"{tmp_path}/b")
        assert done.returncode == 1
        assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_new_supervisor_asks_for_a_restart_before_a_tier_comes(tmp_path: Path) -> None:
    with device_up("--size", "64M", "--no-swapon", "--tier", f"file:{tmp_path}/a") as device:
        kill_supervisor(device.name)
        add = ("tier", "add", "-d", device.name, f"file:{tmp_path}/b,name=second")
        assert "first: fuseswap restart" in call(*add).stderr
        assert not (tmp_path / "b").exists()
        succeed("restart", device.name)
        succeed(*add)
        kill_supervisor(device.name)
        assert sorted(tiers(device.name)) == ["file0", "second"]
