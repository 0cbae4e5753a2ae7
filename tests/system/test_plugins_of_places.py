"""Backends and tiers of packages, under pressure: good ones, and bad ones; no page is lost.

Every so many calls of a bad one are wrong, so what it has is there.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fuseswap.units import MIB
from tests.support.mounted_devices import (
    TestDevice,
    device_up,
    succeed,
    tier_processes_of,
    wait_until,
    worker_of,
)
from tests.system.plugin_environment import interpreter, log_of, number, with_plugins
from tests.system.test_pressure import press
from tests.system.under_pressure import pressure_on

__all__ = ["interpreter", "with_plugins"]  # fixtures

pytestmark = pytest.mark.usefixtures("with_plugins")

PROCESS = 64 * MIB
MEMORY = 24 * MIB
TOUCHES = ("--seconds", "60", "--touches", "2000")
OF_TIERS = ("--size", "640M", "--pool-limit", "8M", "--priority", "32767")
OF_BACKENDS = ("--size", "640M", "--pool-limit", "128M", "--priority", "32767")


def pages_of(device: TestDevice, backend: str) -> int:
    return number(device, f"curr_pages.{backend}")


def add_backend(device: TestDevice, kind: str) -> None:
    size = ("--kind", kind, "--size", "32M")
    succeed("backend", "add", "-d", device.name, kind, *size)


def test_a_backend_outlives_the_worker() -> None:
    with device_up(*OF_BACKENDS) as device:
        add_backend(device, "raw_pages")
        with pressure_on(device, PROCESS, MEMORY) as pressure:
            wait_until("pages in it", lambda: pages_of(device, "raw_pages") > 100)
            os.kill(worker_of(device.name), signal.SIGKILL)
            wait_until("another worker", lambda: device.status()["restarts"] == 1)
            pressure.wait_until_it_goes_on()
            assert pages_of(device, "raw_pages") > 100
            assert pressure.finish()["bad_pages"] == 0
        assert number(device, "plugin_faults.backend.raw_pages") == 0
        assert device.stat("checksum_errors") == 0


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("raising", "SystemExit: a backend wants to go home"),
        ("lying", "get: it "),
        ("blocking", "blocked for 1.0 s"),
    ],
)
def test_a_bad_backend_costs_no_page_and_names_itself(kind: str, said: str) -> None:
    with device_up(*OF_BACKENDS) as device:
        add_backend(device, kind)
        report = press(device, PROCESS, MEMORY, *TOUCHES)
        assert report["bad_pages"] == 0
        assert device.stat("failed_stores") == 0
        assert device.status()["restarts"] == 0
        assert number(device, f"plugin_set_aside.backend.{kind}") == 1
        lines = [line for line in log_of(device) if f"backend '{kind}'" in line]
    assert any(said in line for line in lines), lines
    assert any("is set aside" in line for line in lines), lines
    assert all(f"backend '{kind}' (fuseswap-bad-plugins 0.7)" in line for line in lines)


def test_a_backend_that_never_returns_is_set_aside_by_the_workers_after_it() -> None:
    with device_up(*OF_BACKENDS, "--watchdog", "3") as device:
        add_backend(device, "hanging")
        report = press(device, PROCESS, MEMORY, *TOUCHES)
        assert report["bad_pages"] == 0
        assert device.stat("failed_stores") == 0
        assert device.status()["restarts"] >= 3
        assert number(device, "plugin_set_aside.backend.hanging") == 1
        lines = [line for line in log_of(device) if "backend 'hanging'" in line]
    assert any("ended inside" in line for line in lines), lines
    assert any("(fuseswap-bad-plugins 0.7) is set aside" in line for line in lines), lines


def two_tiers(kind: str, directory: Path) -> tuple[str, ...]:
    """The file takes what the plugin refuses."""
    plugin = f"{kind}:{directory}/plugin,name=far,size=256M"
    return ("--tier", plugin, "--tier", f"file:{directory}/near,name=near")


def test_a_tier_outlives_worker_and_process(tmp_path: Path) -> None:
    with device_up(*OF_TIERS, *two_tiers("directory", tmp_path)) as device:
        with pressure_on(device, PROCESS, MEMORY) as pressure:
            wait_until("segments there", lambda: number(device, "tier_segments.far") > 4)
            (pid,) = tier_processes_of(device.name)
            os.kill(pid, signal.SIGKILL)
            os.kill(worker_of(device.name), signal.SIGKILL)
            wait_until("another worker", lambda: device.status()["restarts"] == 1)
            pressure.wait_until_it_goes_on()
            assert pressure.finish()["bad_pages"] == 0
        assert device.stat("checksum_errors") == device.stat("tier_read_errors") == 0


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("raising", "read: KeyError: 'a tier has lost its way'"),
        ("blocking", "stood still for "),
        ("lying", "far: a block is not what was written"),
        ("leaving", "ended with 1"),
        ("hanging", "stands still: killed"),
    ],
)
def test_a_bad_tier_costs_no_page_and_names_itself(kind: str, said: str, tmp_path: Path) -> None:
    """One that ends its process, or hangs, gets another one, which is asked again."""
    with device_up(*OF_TIERS, *two_tiers(kind, tmp_path)) as device:
        report = press(device, PROCESS, MEMORY, *TOUCHES)
        assert report["bad_pages"] == 0
        assert device.stat("checksum_errors") == device.stat("tier_read_errors") == 0
        assert device.status()["restarts"] == 0
        assert number(device, "tier_reads.far") > 0
        log = log_of(device)
    assert any(f"tier '{kind}' (fuseswap-bad-plugins 0.7) is loaded" in line for line in log)
    assert any(said in line and "far" in line for line in log), log
