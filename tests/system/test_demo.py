"""``fuseswap demo``: progress, every page verified, what was saved; its device comes and goes."""

from __future__ import annotations

import re

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import swap_area
from tests.support.mounted_devices import call, device_up, leftovers, new_name, taken_down

OPTIONS = ("--memory", "64M", "--seconds", "3")


def check_report(text: str) -> None:
    assert "A process of 192M in a memory cgroup of 64M" in text
    assert re.search(r"saved \S+: \d+\.\d+ times smaller", text)
    assert "49152 pages verified, 0 bad pages" in text


def check_progress(text: str) -> None:
    """A line now and then: a bar is for terminals."""
    assert "\r" not in text
    lines = text.splitlines()
    assert lines[-1].split()[0] == "end"
    assert all("bad pages 0" in line for line in lines)


def test_it_brings_its_own_device_and_takes_it_down() -> None:
    name = new_name()
    with taken_down(name):
        done = call("demo", name, *OPTIONS)
        assert done.returncode == 0, done.stderr
        check_progress(done.stderr)
        check_report(done.stdout)
        assert leftovers(name, str(Runtime(name).default_mountpoint)) == []


def test_it_uses_a_device_that_is_up() -> None:
    with device_up("--size", "4G", "--priority", "200") as device:  # with room for strangers
        done = call("demo", device.name, *OPTIONS)
        assert done.returncode == 0, done.stderr
        check_progress(done.stderr)
        check_report(done.stdout)
        assert swap_area.area_of(device.loop) is not None
        assert device.stat("succ_stores") > 10_000


@pytest.mark.no_swap
@pytest.mark.parametrize(("memory", "code"), [("16M", 1), ("900G", 2)])
def test_it_needs_memory_for_python_and_for_its_pages(memory: str, code: int) -> None:
    done = call("demo", "no-such-device", "--memory", memory)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1)
    assert f"--memory {memory}" in done.stderr


def test_it_needs_room() -> None:
    with device_up("--size", "128M") as device:
        done = call("demo", device.name, *OPTIONS)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "--memory" in done.stderr


@pytest.mark.no_swap
def test_it_needs_swap_that_is_on() -> None:
    with device_up("--size", "512M", "--no-swapon") as device:
        done = call("demo", device.name, *OPTIONS)
        assert done.returncode == 2
        assert "not enabled" in done.stderr
