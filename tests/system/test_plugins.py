"""Codecs and policies of packages, under pressure: good ones, and bad ones.

Backends and tiers are in ``test_plugins_of_places.py``.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from fuseswap.units import MIB
from tests.support.mounted_devices import (
    TestDevice,
    device_up,
    succeed,
    wait_until,
    worker_of,
)
from tests.system.plugin_environment import interpreter, log_of, number, with_plugins
from tests.system.test_pressure import press
from tests.system.under_pressure import pressure_on

__all__ = ["interpreter", "with_plugins"]  # fixtures

pytestmark = pytest.mark.usefixtures("with_plugins")

PROCESS = 64 * MIB
LARGE = 160 * MIB
MEMORY = 24 * MIB
FULL = ("--size", "640M", "--pool-limit", "8M", "--priority", "32767")
DEVICE = ("--size", "640M", "--pool-limit", "128M", "--priority", "32767")


def a_backing_file(directory: Path) -> str:
    path = directory / "backing"
    path.touch()
    os.truncate(path, 256 * MIB)
    return str(path)


def wait_for_restarts(device: TestDevice, restarts: int) -> None:
    wait_until("another worker", lambda: device.status()["restarts"] == restarts)


def test_they_are_listed_with_their_packages() -> None:
    rows = {(row["kind"], row["name"]): row for row in json.loads(succeed("plugins", "--json"))}
    for key in (
        ("codec", "deflate"),
        ("backend", "raw_pages"),
        ("tier", "directory"),
        ("policy", "largest_first"),
    ):
        assert rows[key]["loads"], rows[key]
        assert (rows[key]["package"], rows[key]["version"]) == ("fuseswap-examples", "1.0")
    absent, half = rows["codec", "absent"], rows["tier", "half"]
    assert (absent["package"], absent["version"]) == ("fuseswap-bad-plugins", "0.7")
    assert absent["error"].startswith("ModuleNotFoundError")
    assert half["error"] == "fuseswap_bad_plugins:Half has no method 'read'"


def test_a_codec_and_a_policy_outlive_the_worker(tmp_path: Path) -> None:
    backing = a_backing_file(tmp_path)
    plugged = ("--compressor", "deflate:1", "--backing", backing)
    with device_up(*FULL, "--pool-limit", "16M", *plugged) as device:  # a store waits less often
        succeed("set", device.name, "eviction_policy=largest_first")
        with pressure_on(device, PROCESS, MEMORY) as pressure:
            for restarts in (1, 2):
                os.kill(worker_of(device.name), signal.SIGKILL)
                wait_for_restarts(device, restarts)
            assert device.param("compressor") == "deflate:1"
            assert device.param("eviction_policy") == "largest_first"
            assert number(device, "codec_pages.deflate") > 1000
            assert pressure.finish()["bad_pages"] == 0
        assert device.stat("checksum_errors") == 0
        assert device.stat("bd_writes") > 0
        for name in ("codec.deflate", "policy.largest_first"):
            assert number(device, f"plugin_faults.{name}") == 0
            assert number(device, f"plugin_set_aside.{name}") == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raising", "SystemExit: a plugin wants to go home"),
        ("lying", "it did not open a page as it was"),
        ("blocking", "blocked for 1.0 s"),
    ],
)
def test_a_bad_codec_costs_no_page_and_names_itself(name: str, said: str) -> None:
    with device_up(*DEVICE, "--compressor", name) as device:
        report = press(device, PROCESS, MEMORY, "--seconds", "60", "--touches", "3000")
        assert report["bad_pages"] == 0
        assert device.stat("checksum_errors") == 0
        assert device.stat("failed_stores") == 0
        assert device.status()["restarts"] == 0
        assert device.param("compressor") == "lz4"
        assert number(device, f"plugin_set_aside.codec.{name}") == 1
        lines = [line for line in log_of(device) if f"codec '{name}'" in line]
    assert len([line for line in lines if said in line]) == 1, lines
    assert any("is set aside, lz4 goes on" in line for line in lines)
    assert all(f"codec '{name}' (fuseswap-bad-plugins 0.7)" in line for line in lines)


def test_a_codec_that_never_returns_is_set_aside_by_the_workers_after_it() -> None:
    with device_up(*DEVICE, "--compressor", "hanging", "--watchdog", "3") as device:
        report = press(device, PROCESS, MEMORY, "--seconds", "60", "--touches", "2000")
        assert report["bad_pages"] == 0
        assert device.status()["restarts"] >= 3
        assert device.param("compressor") == "lz4"
        log = log_of(device)
        assert any("codec 'hanging'" in line and "set aside" in line for line in log)
        assert any("most recent call first" in line for line in log)  # where it was stuck
        assert any(line.startswith("  File") and "drain" in line for line in log)


def test_bad_policies_leave_it_to_the_default(tmp_path: Path) -> None:
    backing = a_backing_file(tmp_path)
    with device_up(*FULL, "--backing", backing) as device:
        for name in ("raising", "nonsense"):
            succeed("set", device.name, f"eviction_policy={name}")
            report = press(device, LARGE, MEMORY, "--seconds", "60", "--touches", "1000")
            assert report["bad_pages"] == 0
            assert number(device, f"plugin_set_aside.policy.{name}") == 1
            lines = [line for line in log_of(device) if f"policy '{name}'" in line]
            assert len(lines) == 2, lines
        assert device.stat("bd_writes") > 0
