"""`up --below-zswap` with the kernel's own zswap: pages come down, and zswap is put back.

zswap is one for the machine, so its parameters are looked at before and after each test.  Where
the machine uses it, it is off while a test runs and on again after it: what it holds by then
stays in it, and the tests count from there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from fuseswap.daemon.runtime_dir import Runtime, runtime_root
from fuseswap.linux import swap_area, zswap
from fuseswap.linux.zswap import Zswap
from fuseswap.linux.zswap_use import zswap_use
from fuseswap.units import MIB
from tests.support.mounted_devices import (
    call,
    device_up,
    fuseswap_command,
    new_name,
    processes_of,
    run,
    succeed,
    taken_down,
    wait_until,
)
from tests.system.hard_times import send_worker
from tests.system.under_pressure import pressure_on

SIZE, MEMORY = 192 * MIB, 64 * MIB  # of a process: far below a hundredth of any memory


@pytest.fixture(autouse=True)
def before() -> Iterator[dict[str, str]]:
    """zswap's parameters; what a test leaves in another state fails it, and is put back."""
    found = Zswap(runtime_root()).read()
    if not found:
        pytest.skip("this kernel has no zswap")
    off = {**found, "enabled": "N"}
    _set("enabled", "N")
    try:
        yield off
    finally:
        left = Zswap(runtime_root()).read()
        for name, value in found.items():
            _set(name, value)
    assert left == off


def _set(name: str, value: str) -> None:
    (zswap.PARAMETERS / name).write_text(value)


def parameters() -> dict[str, str]:
    return Zswap(runtime_root()).read()


def test_pages_come_down_and_a_worker_dies_meanwhile(before: dict[str, str]) -> None:
    """A pool of no percent is full: zswap hands down what it has, oldest first."""
    options = ("--size", "1G", "--pool-limit", "256M", "--below-zswap", "1", "--priority", "200")
    with device_up(*options) as device:
        assert (parameters()["max_pool_percent"], parameters()["enabled"]) == ("1", "Y")
        was = zswap_use()
        with pressure_on(device, SIZE, MEMORY) as process:
            process.wait_until_it_goes_on(2)
            held = zswap_use()
            assert held.loaded_pages > was.loaded_pages, "hits in front"
            assert held.pool_bytes > 0
            _set("max_pool_percent", "0")
            wait_until(
                "pages to be handed down",
                lambda: zswap_use().written_back_pages > was.written_back_pages + 1000,
            )
            wait_until("pages in the device", lambda: device.stat("stored_pages") > 1000)
            send_worker(device.name, signal.SIGKILL)
            process.wait_until_it_goes_on(2)
            _set("max_pool_percent", "1")
            process.wait_until_it_goes_on(2)
            wait_until("metrics to have it", lambda: device.stat("zswap_written_back_pages") > 0)
            status = device.status()
            assert status["zswap"]["asked_percent"] == 1
            assert status["zswap"]["written_back_pages"] > was.written_back_pages
            assert status["params"]["compressor"] == "zstd:1"
            assert "pages handed down" in succeed("status", device.name)
            assert process.finish()["bad_pages"] == 0
        succeed("down", device.name)
        assert parameters() == before


def test_of_two_devices_the_last_one_down_puts_back(before: dict[str, str]) -> None:
    with (
        device_up("--size", "64M", "--below-zswap", "3", "--priority", "2") as first,
        device_up("--size", "64M", "--below-zswap", "--priority", "1") as second,
    ):
        assert parameters()["max_pool_percent"] == "5", "the last one says"
        assert second.status()["zswap"]["asked_percent"] == 5
        succeed("down", first.name)
        assert parameters()["enabled"] == "Y"
        succeed("down", second.name)
        assert parameters() == before


def test_down_puts_back_where_all_processes_died(before: dict[str, str]) -> None:
    """The swap is off by then, so that no page of anyone is lost."""
    with device_up("--size", "64M", "--below-zswap", "3", "--priority", "0") as device:
        assert parameters()["enabled"] == "Y"
        swap_area.switch_off(device.loop)
        for pid in processes_of(device.name):
            os.kill(pid, signal.SIGKILL)
        wait_until("the processes to end", lambda: not processes_of(device.name))
        call("down", device.name)
        assert parameters() == before


def test_up_that_is_killed_on_its_way_leaves_a_way_back(before: dict[str, str]) -> None:
    """The note is there before the first value, so any later `down` finds it."""
    Zswap(runtime_root()).put_in_front("gone", 3)
    assert parameters()["enabled"] == "Y"
    with device_up("--size", "64M", "--no-swapon") as device:
        succeed("down", device.name)
    assert parameters() == before


def test_a_second_up_gives_what_is_missing(before: dict[str, str]) -> None:
    """The swap is not on yet, so zswap is as it was; then both come."""
    with device_up("--size", "64M", "--below-zswap", "3", "--no-swapon") as device:
        assert parameters() == before
        succeed("up", device.name, "--priority", "0")
        assert parameters()["max_pool_percent"] == "3"


def test_a_zswap_that_stands_there_unasked_is_noted(before: dict[str, str]) -> None:
    _set("enabled", "Y")
    name = new_name()
    with taken_down(name):
        done = call("up", name, "--size", "64M", "--priority", "0")
        assert "zswap stands in front of this swap" in done.stderr
        assert "unasked" in succeed("check")
        assert "was not asked for" in succeed("status", name)
    assert parameters()["enabled"] == "Y"
    _set("enabled", before["enabled"])


def test_a_read_only_sysfs_is_one_line() -> None:
    name = new_name()
    command = [
        "unshare", "--mount", "sh", "-c", 'mount -o remount,bind,ro /sys && exec "$@"', "sh",
        *fuseswap_command("up", name, "--size", "64M", "--below-zswap"),
    ]  # fmt: skip
    done = run(command)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "can't write" in done.stderr
    assert not Runtime(name).exists()
