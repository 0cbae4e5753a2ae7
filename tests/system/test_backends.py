"""A backend that comes while the swap is on, is drained and goes: no page is bad."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from fuseswap.units import MIB
from tests.support.mounted_devices import TestDevice, call, device_up, succeed, wait_until
from tests.system.under_pressure import pressure_on

UP = ("--size", "1G", "--pool-limit", "256M", "--priority", "200", "--raw", "32M", "--raw", "1M")
PRESSURE = (224 * MIB, 96 * MIB)


def pages_of(device: TestDevice, backend: str) -> int:
    return device.stat(f"curr_pages.{backend}")


def is_in_use(device: TestDevice) -> bool:
    return pages_of(device, "raw0") > 1000


def was_replaced(device: TestDevice, times: int) -> bool:
    return int(device.status()["restarts"]) >= times


def test_no_bad_page_while_a_backend_comes_and_goes() -> None:
    with device_up(*UP) as device, pressure_on(device, *PRESSURE) as pressure:
        for number in range(2):
            succeed("backend", "add", "-d", device.name, "raw0")
            wait_until("pages in it", partial(is_in_use, device))
            worker = int(device.status()["worker_pid"])
            os.kill(worker, signal.SIGKILL)
            wait_until("another worker", partial(was_replaced, device, number + 1))
            assert "raw0" in succeed("backend", "list", "-d", device.name).splitlines()[1]
            succeed("shrink", "-d", device.name, "raw0", "--to", "1M")
            succeed("backend", "remove", "-d", device.name, "raw0")
            assert device.stat("mem_backends") == 0
        report = pressure.finish()
        assert report["bad_pages"] == 0
        assert device.stat("checksum_errors") == device.stat("failed_stores") == 0


def test_a_worker_that_dies_while_it_drains() -> None:
    """The removal is forgotten, and no page is."""
    with device_up(*UP) as device, pressure_on(device, *PRESSURE) as pressure:
        succeed("backend", "add", "-d", device.name, "raw0")
        wait_until("pages in it", partial(is_in_use, device))
        parameter = device.mountpoint / "params" / "backends"
        worker = int(device.status()["worker_pid"])
        parameter.write_text("remove=raw0")
        os.kill(worker, signal.SIGKILL)
        wait_until("another worker", partial(was_replaced, device, 1))
        first, *_, last = parameter.read_text().splitlines()
        assert "remove=" not in last
        if first.startswith("raw0 "):  # else it was quicker
            assert first.endswith("state=active")
            succeed("backend", "remove", "-d", device.name, "raw0")
        assert pressure.finish()["bad_pages"] == 0


@pytest.mark.no_swap
def test_what_can_not_be_done_is_one_line() -> None:
    with device_up("--size", "64M", "--no-swapon", "--raw", "1M") as device:
        for arguments, code, said in (
            (("backend", "add", "raw1"), 1, "no memory for a backend 'raw1': --size SIZE"),
            (("backend", "add", "raw0", "--size", "1M"), 1, "is there: without --size"),
            (("backend", "add", "x", "--size", "1K"), 1, "at least 1M"),
            (("backend", "add", "x", "--size", "1M", "--file", "/etc/fstab"), 1, "has "),
            (("backend", "add", "x", "--size", "1M", "--file", "/no"), 2, "cannot open /no"),
            (("backend", "add", "cache"), 1, "has a backend 'cache' already"),
            (("backend", "add", "raw0", "--order", "7"), 1, "--order 7 is none of"),
            (("backend", "remove", "raw0"), 1, "has no backend 'raw0'; there are: cache"),
            (("backend", "remove", "cache"), 1, "'cache' belongs to the device"),
            (("shrink", "raw0", "--to", "1M"), 1, "has no backend 'raw0'"),
            (("shrink", "cache", "--to", "1M"), 2, "has no tier"),
            (("shrink", "cache", "--to", "much"), 1, "much"),
        ):
            done = call(*arguments, "-d", device.name)
            assert done.returncode == code, arguments
            assert said in done.stderr
            assert len(done.stderr.splitlines()) == 1
        succeed("backend", "add", "-d", device.name, "raw0", "--order", "last")
        rows = succeed("backend", "list", "-d", device.name).splitlines()
        assert [row.split()[0] for row in rows] == ["backend", "cache", "raw0"]


def test_memory_that_comes_with_its_backend_goes_with_it() -> None:
    """Under pressure, and whatever dies: the supervisor holds it as it holds tiers."""
    with (
        device_up("--size", "1G", "--pool-limit", "256M", "--priority", "200") as device,
        pressure_on(device, *PRESSURE) as pressure,
    ):
        succeed("backend", "add", "-d", device.name, "fast", "--size", "32M")
        wait_until("pages in it", lambda: pages_of(device, "fast") > 1000)
        os.kill(int(device.status()["worker_pid"]), signal.SIGKILL)
        wait_until("another worker", partial(was_replaced, device, 1))
        os.kill(int(device.status()["supervisor_pid"]), signal.SIGKILL)
        succeed("up", device.name)
        assert pages_of(device, "fast") > 1000
        succeed("restart", device.name)  # the new supervisor went on with the worker it found
        succeed("backend", "remove", "-d", device.name, "fast")
        assert "fast" not in succeed("backend", "list", "-d", device.name)
        succeed("backend", "add", "-d", device.name, "fast", "--size", "8M")
        report = pressure.finish()
        assert report["bad_pages"] == 0
        assert device.stat("checksum_errors") == device.stat("failed_stores") == 0
