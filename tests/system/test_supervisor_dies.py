"""The supervisor dies: the device serves on, comes down, and can have another supervisor.

Where all of its processes die, what was swapped out is lost, so that must be nobody's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fuseswap.daemon import strays
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import swap_area
from tests.support.mounted_devices import (
    TestDevice,
    call,
    device_up,
    kill_all,
    leftovers,
    new_name,
    processes_of,
    standby_of,
    strangers_elsewhere,
    succeed,
    taken_down,
    wait_until,
    worker_of,
)
from tests.support.service_manager import ServiceManager
from tests.system.hard_times import send_worker, verified_load

SIZE = ("--size", "64M", "--priority", "0")
DATA = os.urandom(1 << 20)


@pytest.fixture(scope="module", autouse=True)
def _strangers() -> Iterator[None]:
    with strangers_elsewhere():
        yield


def store(name: str) -> None:
    """`DATA` into the middle of the file, which holds nobody's pages."""
    with open(Runtime(name).default_mountpoint / "swapfile", "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), DATA, 16 << 20)


def is_stored(name: str) -> bool:
    """Whether it is still there."""
    with open(Runtime(name).default_mountpoint / "swapfile", "rb", buffering=0) as file:
        return os.pread(file.fileno(), len(DATA), 16 << 20) == DATA


def kill(name: str, *which: str) -> None:
    """SIGKILL ``supervisor_pid``, ``worker_pid`` or both, and wait for their end."""
    state = Runtime(name).state()
    pids = {getattr(state, key) for key in which}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until("them to end", lambda: not pids & set(processes_of(name)))


def check_alive(device: TestDevice) -> None:
    assert swap_area.area_of(device.loop) is not None
    assert is_stored(device.name)


def test_the_worker_serves_on_and_down_works(tmp_path: Path) -> None:
    with device_up(*SIZE) as device:
        store(device.name)
        kill(device.name, "supervisor_pid")
        check_alive(device)
        assert device.status()["status"] == "running"
        done = call("restart", device.name)
        assert done.returncode == 2
        assert "no supervisor" in done.stderr
        os.kill(device.info["worker_pid"], signal.SIGSTOP)
        assert call("down", device.name).returncode == 0
        assert leftovers(device.name, str(device.mountpoint)) == []


def test_up_gives_it_another(tmp_path: Path) -> None:
    """With the worker's descriptors, under load; and the new one does all a supervisor does."""
    with device_up("--size", "64M", "--no-swapon") as device:
        with verified_load(device, tmp_path):
            kill(device.name, "supervisor_pid")
            succeed("up", device.name, "--no-swapon")
            status = device.status()
            assert status["supervisor_pid"] != device.info["supervisor_pid"]
            # It goes on with the worker that serves.
            assert (status["status"], status["restarts"]) == ("running", 0)
            assert status["worker_pid"] == device.info["worker_pid"]
            send_worker(device.name, signal.SIGKILL)
            succeed("restart", device.name)
        assert device.status()["restarts"] == 2


def stop_one_in_the_making(name: str) -> int:
    """SIGSTOP a standby that is not prepared yet; the process id."""
    runtime = Runtime(name)
    before = standby_of(name)
    os.kill(before, signal.SIGKILL)
    known = {before, worker_of(name)}
    found: set[int] = set()

    def is_there() -> bool:
        found.update({*strays.workers_of(name, str(runtime.directory))} - known)
        return bool(found)

    wait_until("another standby", is_there, every_s=0.001)
    os.kill(pid := found.pop(), signal.SIGSTOP)
    return pid


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_standby_that_was_being_made_has_the_tiers_of_today(
    tmp_path: Path, is_heard: bool
) -> None:
    """One tier came, and another went, before the supervisor died and then the worker.

    Where it has not heard of them by then, and so was not prepared, there is to be another.
    """
    first = ("--tier", f"file:{tmp_path}/first,name=first,size=20M")
    with device_up("--size", "64M", "--no-swapon", *first) as device:
        name = device.name
        stopped = stop_one_in_the_making(name)
        try:
            succeed("tier", "add", "-d", name, f"file:{tmp_path}/late,name=late,size=20M")
            succeed("tier", "remove", "-d", name, "first")
            store(name)
            succeed("writeback", name, "--all")
            assert device.stat("tier_segments.late")
            assert Runtime(name).state().standby_pid != stopped
            kill(name, "supervisor_pid")
            if is_heard:
                os.kill(stopped, signal.SIGCONT)
            succeed("up", name, "--no-swapon")
        finally:
            with suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGCONT)
        send_worker(name, signal.SIGKILL)
        assert is_stored(name)
        assert device.stat("tier_read_errors") == 0
        succeed("restart", name)
        assert is_stored(name)
    assert not list(tmp_path.iterdir())


def test_all_die_and_down_clears_away() -> None:
    with device_up(*SIZE) as device:
        store(device.name)
        kill_all(device.name)
        assert device.status()["status"] == "dead"
        up = call("up", device.name)
        assert up.returncode == 2
        assert "fuseswap down" in up.stderr
        assert call("down", device.name).returncode == 0
        assert leftovers(device.name, str(device.mountpoint)) == []


def test_the_service_manager_keeps_it_all(tmp_path: Path) -> None:
    name = new_name()
    backing = ("--pool-limit", "16M", "--backing", str(tmp_path / "backing"))
    arguments = ("up", name, *SIZE, "--notify", *backing)
    with taken_down(name), ServiceManager() as manager:
        done = manager.start(*arguments)
        assert done.returncode == 0, done.stderr
        runtime = Runtime(name)
        before = runtime.state()
        wait_until("READY=1", lambda: manager.fields.get("READY") == "1")
        assert manager.fields["MAINPID"] == str(before.supervisor_pid)
        assert manager.fields["STATUS"] == "running"
        kept = {held.replace(":", ".") for held in runtime.config().held_files}
        assert set(manager.kept) == kept

        loop, _ = runtime.noted_loop()
        assert loop is not None
        store(name)
        kill_all(name)
        done = manager.start(*arguments)
        assert done.returncode == 0, done.stderr
        assert is_stored(name)
        assert swap_area.area_of(loop) is not None
        after = runtime.state()
        assert len({before.supervisor_pid, after.supervisor_pid}) == 2
        wait_until("MAINPID", lambda: manager.fields["MAINPID"] == str(after.supervisor_pid))
        assert set(manager.kept) == kept

        succeed("down", name)
        wait_until("nothing to be kept", lambda: not manager.kept)
        assert leftovers(name, str(runtime.default_mountpoint)) == []
        assert not (tmp_path / "backing").exists()
