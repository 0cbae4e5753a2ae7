"""``up`` and ``down``: the contract scripts rely on, and nothing left behind."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from fuseswap.daemon import take_down
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.linux import loop, mount, swap_area
from tests.support.mounted_devices import (
    TRANSPORTS,
    call,
    device_up,
    leftovers,
    new_name,
    processes_of,
    standby_of,
    succeed,
    taken_down,
    wait_until,
)

KEYS = {
    "name", "mountpoint", "swapfile", "loop", "supervisor_pid", "worker_pid", "size_bytes"
}  # fmt: skip


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_up_enables_swap_and_down_undoes_it(transport: str) -> None:
    name = new_name()
    with taken_down(name):
        options = ("--size", "300M", "--priority", "7", "--transport", transport, "--json")
        info = json.loads(succeed("up", name, *options))
        assert set(info) == KEYS
        assert info["name"] == name
        assert info["size_bytes"] == 300 << 20
        assert info["swapfile"] == f"{info['mountpoint']}/swapfile"
        assert mount.is_mounted(info["mountpoint"])
        assert loop.find(info["swapfile"]) == info["loop"]
        area = swap_area.area_of(info["loop"])
        assert area is not None
        assert area.priority == 7
        assert area.size_bytes == (300 << 20) - 4096
        expected = {info["supervisor_pid"], info["worker_pid"]}
        if transport == "devfuse":
            expected.add(standby_of(name))
        assert set(processes_of(name)) == expected

        assert succeed("down", name).strip() == f"{name} is down"
        assert swap_area.area_of(info["loop"]) is None
        assert leftovers(name, info["mountpoint"]) == []


@pytest.mark.no_swap
def test_the_loop_device_is_as_it_should_be() -> None:
    with device_up("--size", "256M", "--no-swapon") as device:
        queue = Path("/sys/block") / Path(device.loop).name
        assert (queue / "loop/dio").read_text().strip() == "1"
        assert (queue / "queue/logical_block_size").read_text().strip() == "4096"
        assert int((queue / "queue/discard_max_bytes").read_text()) > 0
        assert swap_area.area_of(device.loop) is None


def test_the_smallest_device() -> None:
    with device_up("--size", "1M") as device:
        area = swap_area.area_of(device.loop)
        assert area is not None
        assert area.size_bytes == (1 << 20) - 4096


@pytest.mark.no_swap
def test_pyfuse3_up_says_what_it_cannot_do() -> None:
    name = new_name()
    with taken_down(name):
        done = call("up", name, "--size", "256M", "--no-swapon", "--transport", "pyfuse3")
        assert done.returncode == 0
        assert "discards" in done.stderr
        assert all(line.startswith("note: ") for line in done.stderr.splitlines())


def test_up_twice_changes_nothing() -> None:
    with device_up("--size", "256M") as device:
        before = swap_area.area_of(device.loop)
        assert before is not None
        assert json.loads(succeed("up", device.name, "--size", "1G", "--json")) == device.info
        assert "already" in succeed("up", device.name)
        after = swap_area.area_of(device.loop)
        assert after is not None
        # Anybody's cold pages may have come into it meanwhile (DAMON).
        assert replace(after, used_bytes=before.used_bytes) == before
        assert device.swapfile.stat().st_size == 256 << 20


def test_two_devices_at_once_and_down_all() -> None:
    with device_up("--size", "256M") as first, device_up("--size", "256M") as second:
        assert first.loop != second.loop
        succeed("down", first.name)
        assert swap_area.area_of(second.loop) is not None
        assert leftovers(first.name, str(first.mountpoint)) == []


def test_down_refuses_what_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    with device_up("--size", "256M") as device:
        runtime = Runtime(device.name)
        standby = device.status()["standby_pid"]
        with monkeypatch.context() as patch:
            patch.setattr(swap_area, "shortage_bytes", lambda loop_device: 123 << 20)
            with pytest.raises(HostError, match="123M more memory"):
                take_down.down(runtime)
        wait_until("another standby", lambda: device.status()["standby_pid"] not in (None, standby))
        assert device.param("reserve_bytes") == str(16 << 20)
        assert swap_area.area_of(device.loop) is not None
        assert loop.find(str(device.swapfile)) == device.loop
        assert device.status()["status"] == "running"
        assert {device.info["supervisor_pid"], device.info["worker_pid"]} <= set(
            processes_of(device.name)
        )


def test_down_without_room_takes_what_the_device_keeps_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with device_up("--size", "256M") as device:
        runtime = Runtime(device.name)
        seen: list[tuple[object, str]] = []

        def shortage(loop_device: str) -> int:
            seen.append((device.status()["standby_pid"], device.param("reserve_bytes")))
            return 123 << 20 if len(seen) == 1 else 0

        standby = device.status()["standby_pid"]
        monkeypatch.setattr(swap_area, "shortage_bytes", shortage)
        take_down.down(runtime)
        assert standby
        assert seen == [(standby, str(16 << 20)), (None, str(4 << 20))]
        assert leftovers(device.name, str(device.mountpoint)) == []


@pytest.mark.no_swap
def test_shortage_counts_memory_and_other_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 1 << 30
    ours = swap_area.SwapArea("/dev/loop9", 4 * gib, 3 * gib, 100)
    other = swap_area.SwapArea("/dev/vdb", gib, gib // 2, 1)
    monkeypatch.setattr(swap_area, "available_bytes", lambda: 2 * gib)
    monkeypatch.setattr(swap_area, "areas", lambda: [ours])
    monkeypatch.setattr(swap_area, "memory_bytes", lambda: 4 * gib)
    assert swap_area.shortage_bytes("/dev/loop9") == gib + (64 << 20)
    monkeypatch.setattr(swap_area, "areas", lambda: [ours, other])
    assert swap_area.shortage_bytes("/dev/loop9") == gib // 2 + (64 << 20)
    monkeypatch.setattr(swap_area, "memory_bytes", lambda: gib // 4)
    assert swap_area.shortage_bytes("/dev/loop9") == gib // 2 + (16 << 20)
    monkeypatch.setattr(swap_area, "available_bytes", lambda: 3 * gib)
    assert swap_area.shortage_bytes("/dev/loop9") == 0
    assert swap_area.shortage_bytes("/dev/loop8") == 0


@pytest.mark.no_swap
def test_down_while_the_file_is_open_names_who_has_it() -> None:
    with device_up("--size", "256M", "--no-swapon") as device:
        with open(device.swapfile, "rb"):
            done = call("down", device.name)
            assert done.returncode == 2
            assert len(done.stderr.splitlines()) == 1
            assert "is in use by" in done.stderr
            assert mount.is_mounted(str(device.mountpoint))
        succeed("down", device.name)


@pytest.mark.no_swap
def test_sigterm_to_the_supervisor_takes_an_idle_device_down() -> None:
    """As a service manager stops it; while the loop device holds the file it stays."""
    with device_up("--size", "256M", "--no-swapon") as device:
        os.kill(device.info["supervisor_pid"], 15)
        log = Runtime(device.name).log_path
        wait_until("the refusal to be logged", lambda: "in use" in log.read_text())
        assert device.status()["status"] == "running"
        loop.detach(device.loop)
        os.kill(device.info["supervisor_pid"], 15)
        wait_until("it to go", lambda: not leftovers(device.name, str(device.mountpoint)))
