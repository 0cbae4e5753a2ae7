"""One name, several workers: what holds for a device holds for a set of stripes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import loop, swap_area
from fuseswap.tiers.ownership_label import BOTH_ENDS_BYTES
from fuseswap.units import MIB
from tests.support.mounted_devices import (
    TestDevice,
    call,
    leftovers,
    new_name,
    processes_of,
    succeed,
    taken_down,
    wait_until,
    worker_of,
)
from tests.support.service_manager import ServiceManager
from tests.support.striped_devices import TestSet, set_taken_down, stripes_up
from tests.system.hard_times import send_worker
from tests.system.under_pressure import pressure_on

TOOLS = ("losetup", "mkswap", "swapon", "swapoff", "umount")


def test_under_memory_pressure_whoever_dies() -> None:
    """A worker, a supervisor, and all workers by restart; every page is checked."""
    options = ("--size", "1G", "--pool-limit", "128M", "--priority", "32767", "--watchdog", "3")
    with stripes_up(*options) as found:
        first, second = found.stripes
        areas = [swap_area.area_of(stripe.loop) for stripe in found.stripes]
        assert [area.priority for area in areas if area] == [32767, 32767]
        whole = replace(first, name=found.name)
        with pressure_on(whole, 192 * MIB, 64 * MIB) as pressure:
            both = [stripe.stat("stored_pages") for stripe in found.stripes]
            assert min(both) * 5 > max(both), "the kernel spreads its clusters"
            send_worker(first.name, signal.SIGKILL)
            pressure.wait_until_it_goes_on()
            check_pool(found)

            supervisor = Runtime(second.name).state().supervisor_pid
            os.kill(supervisor, signal.SIGKILL)
            wait_until("its end", lambda: supervisor not in processes_of(second.name))
            pressure.wait_until_it_goes_on()
            succeed("up", found.name)
            assert Runtime(second.name).state().supervisor_pid != supervisor
            send_worker(second.name, signal.SIGKILL)
            pressure.wait_until_it_goes_on()
            check_pool(found)

            before = [worker_of(stripe.name) for stripe in found.stripes]
            said = succeed("restart", found.name)
            assert [line.partition(":")[0] for line in said.splitlines()] == [
                first.name, second.name
            ]  # fmt: skip
            assert not set(before) & {worker_of(stripe.name) for stripe in found.stripes}
            pressure.wait_until_it_goes_on()
            report = pressure.finish()
        assert report["bad_pages"] == 0
        assert report["pages"] == 192 * MIB // 4096
        check_pool(found)
        status = found.status()
        assert (status["status"], status["restarts"]) == ("running", 4)
        succeed("down", found.name)
        for stripe in found.stripes:
            assert leftovers(stripe.name, str(stripe.mountpoint)) == []


def check_pool(found: TestSet) -> None:
    """What is granted is bound by the limit, and what is held by what is granted."""
    granted, limit = found.pool_frames()
    assert granted <= limit
    held = sum(stripe.stat("pool_total_size") for stripe in found.stripes)
    assert held <= limit * MIB


@pytest.mark.no_swap
def test_the_limit_follows_the_use() -> None:
    """Of pages that do not compress, in one stripe alone, more than an even share fits.

    The other keeps its reserve of 16 frames, and half a cushion.
    """
    with stripes_up("--size", "512M", "--pool-limit", "96M", "--no-swapon") as found:
        one, other = found.stripes
        with open(one.swapfile, "r+b", buffering=0) as file:
            for number in range(64):
                wait_until("room", partial(is_taken, file.fileno(), number * MIB))
                check_pool(found)
        assert one.stat("stored_pages") == 64 * 256
        assert limit_of(other) <= 28 * MIB
        assert succeed("get", found.name, "pool_limit_bytes") == f"{96 * MIB}\n"


def is_gone(name: str) -> bool:
    return not leftovers(name, str(Runtime(name).default_mountpoint))


def is_taken(fd: int, offset: int) -> bool:
    """Whether there was room for a MiB that does not compress."""
    try:
        return os.pwrite(fd, os.urandom(MIB), offset) == MIB  # its last bytes may be refused alone
    except OSError as exc:
        if exc.errno != errno.ENOSPC:
            raise
        return False


def limit_of(stripe: TestDevice) -> int:
    """That of the moment."""
    return int(stripe.param("pool_limit_bytes"))


@pytest.mark.no_swap
def test_commands_act_on_all_stripes(tmp_path: Path) -> None:
    backing = tmp_path / "cold"
    options = ("--size", "256M", "--pool-limit", "64M", "--no-swapon", "--backing", str(backing))
    with stripes_up(*options) as found:
        files = {tmp_path / "cold.0", tmp_path / "cold.1"}
        assert set(tmp_path.iterdir()) == files
        for stripe in found.stripes:
            assert stripe.swapfile.stat().st_size == 128 * MIB
            stripe.swapfile.open("r+b").close()

        succeed("set", found.name, "dedup=off", "writeback_limit_bytes=100M")
        assert [stripe.param("dedup") for stripe in found.stripes] == ["off", "off"]
        assert succeed("get", found.name, "dedup") == "off\n"
        assert succeed("get", found.name, "writeback_limit_bytes") == f"{100 * MIB}\n"
        assert found.stripes[0].param("writeback_limit_bytes") == str(50 * MIB)
        done = call("set", found.name, "dedup=maybe")
        assert (done.returncode, "dedup" in done.stderr) == (1, True)

        succeed("set", found.name, "pool_limit_bytes=128M")
        assert succeed("get", found.name, "pool_limit_bytes") == f"{128 * MIB}\n"
        succeed("set", found.name, "pool_limit_bytes=48M")
        granted, limit = found.pool_frames()
        assert (granted <= limit, limit) == (True, 48)
        done = call("set", found.stripes[0].name, "pool_limit_bytes=32M")
        assert (done.returncode, "share" in done.stderr) == (1, True)
        assert call("set", found.name, "pool_limit_bytes=15M").returncode == 1

        with open(found.stripes[1].swapfile, "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), os.urandom(8 * MIB), 0)
        succeed("writeback", found.name)
        status = found.status()
        assert status["stats"]["written_back_pages"] == 2048
        assert status["stats"]["stored_pages"] == 2048
        assert status["size_bytes"] == 256 * MIB
        assert [one["name"] for one in status["stripes"]] == [one.name for one in found.stripes]
        assert [tier["name"] for tier in status["tiers"]] == ["0/backing_file", "1/backing_file"]
        assert json.loads(succeed("status", "--json"))[0]["name"]
        shown = succeed("status", found.name)
        for stripe in found.stripes:
            assert f"{stripe.name} " in shown
        assert found.stripes[0].name not in succeed("status")

        succeed("scrub", found.name)
        succeed("tier", "add", "-d", found.name, f"file:{tmp_path}/more,size=32M,name=more")
        assert {tmp_path / "more.0", tmp_path / "more.1"} <= set(tmp_path.iterdir())
        assert (tmp_path / "more.0").stat().st_size == 16 * MIB + BOTH_ENDS_BYTES
        succeed("tier", "remove", "-d", found.name, "more")
        assert set(tmp_path.iterdir()) == files

        for wrong in (("up", found.stripes[0].name), ("down", found.stripes[0].name)):
            assert call(*wrong).returncode == 1
        assert call("up", found.name, "--stripes", "3").returncode == 1
        assert call("explain", found.name, "0").returncode == 1
        assert "page 0" in succeed("explain", found.stripes[1].name, "0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.no_swap
def test_a_tier_that_one_stripe_cannot_have_is_no_stripes(tmp_path: Path) -> None:
    with stripes_up("--size", "256M", "--pool-limit", "64M", "--no-swapon") as found:
        succeed("tier", "add", "-d", found.name, f"file:{tmp_path}/first")
        (tmp_path / "more.1").mkdir()
        done = call("tier", "add", "-d", found.name, f"file:{tmp_path}/more")
        assert done.returncode != 0
        there = json.loads(succeed("tier", "list", "-d", found.name, "--json"))
        assert {stripe: [tier["name"] for tier in tiers] for stripe, tiers in there.items()} == {
            stripe.name: ["file0"] for stripe in found.stripes
        }
        assert not (tmp_path / "more.0").exists()


@pytest.mark.no_swap
@pytest.mark.parametrize("tool", ["losetup", "swapon", "mkswap"])
def test_where_the_second_stripe_fails_nothing_is_left(tmp_path: Path, tool: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for each in TOOLS:
        found = shutil.which(each, path="/usr/sbin:/usr/bin:/sbin:/bin")
        assert found
        if each == tool:
            (tools / each).write_text(
                f'#!/bin/sh\n[ -e {tmp_path}/used ] && [ "$1" != --detach ] && '
                f'echo broken on purpose >&2 && exit 1\n: > {tmp_path}/used\nexec {found} "$@"\n'
            )
            (tools / each).chmod(0o755)
        else:
            (tools / each).symlink_to(found)
    name = new_name()
    with set_taken_down(name):
        done = call(
            "up", name, "--stripes", "2", "--size", "256M", "--backing", f"{tmp_path}/cold",
            env={**os.environ, "PATH": str(tools)},
        )  # fmt: skip
        assert done.returncode == 2, done
        assert "broken on purpose" in done.stderr
        for stripe in (f"{name}/0", f"{name}/1"):
            wait_until("nothing to be left", partial(is_gone, stripe))
        assert not Runtime(name).directory.exists()
        assert not any(path.name.startswith("cold") for path in tmp_path.iterdir())


@pytest.mark.no_swap
def test_systemd_watches_the_first_stripe() -> None:
    name = new_name()
    options = ("--stripes", "2", "--size", "64M", "--pool-limit", "32M", "--no-swapon")
    with ServiceManager() as manager, set_taken_down(name):
        done = manager.start("up", name, "--notify", *options)
        assert done.returncode == 0, done.stderr
        first = Runtime(f"{name}/0").state().supervisor_pid
        wait_until("a word of it", lambda: manager.fields.get("MAINPID") == str(first))
        assert manager.fields["READY"] == "1"
        assert manager.kept == {}


@pytest.mark.no_swap
def test_a_name_is_a_device_or_a_set() -> None:
    with stripes_up("--size", "64M", "--pool-limit", "32M", "--no-swapon") as found:
        assert call("mount", "none", "/nowhere", "-o", f"name={found.name}").returncode == 32
        assert found.status()["status"] == "running"
        assert "already" in succeed("up", found.name, "--no-swapon")
    name = new_name()
    with taken_down(name):
        succeed("up", name, "--size", "64M", "--no-swapon")
        assert call("up", name, "--stripes", "2").returncode == 2
        assert loop.find(f"{Runtime(name).default_mountpoint}/swapfile")
