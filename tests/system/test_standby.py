"""The standby, and workers without a supervisor: who goes on, at whatever moment who dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest

from fuseswap.daemon.runtime_dir import Runtime
from tests.support.mounted_devices import (
    TestDevice,
    device_up,
    kill_all,
    leftovers,
    processes_of,
    standby_of,
    succeed,
    wait_until,
    worker_of,
)

pytestmark = pytest.mark.no_swap

SIZE = ("--size", "64M", "--no-swapon")
DATA = os.urandom(1 << 20)
AT = 16 << 20


@pytest.fixture
def device() -> Iterator[TestDevice]:
    """One with its standby, and with `DATA` stored."""
    with device_up(*SIZE) as device:
        store(device)
        standby_of(device.name)
        yield device


def store(device: TestDevice) -> None:
    with open(device.swapfile, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), DATA, AT)


def is_stored(device: TestDevice) -> bool:
    with open(device.swapfile, "rb", buffering=0) as file:
        return os.pread(file.fileno(), len(DATA), AT) == DATA


def check_goes_on(device: TestDevice, *dead: int) -> None:
    """It serves what was stored, is found, gets a supervisor, and `down` leaves nothing."""
    assert is_stored(device)
    runtime = Runtime(device.name)

    def noted() -> bool:
        pid = runtime.state().worker_pid
        return pid not in dead and pid in processes_of(device.name)

    wait_until("the worker to note itself", noted)
    assert device.status()["status"] == "running"
    succeed("up", device.name, "--no-swapon")
    assert is_stored(device)
    state, worker = runtime.state(), worker_of(device.name)
    assert not {worker, state.supervisor_pid} & set(dead)
    expected = {state.supervisor_pid, worker, standby_of(device.name)}
    wait_until("the others to end", lambda: set(processes_of(device.name)) == expected)
    os.kill(worker, signal.SIGKILL)
    assert is_stored(device)
    succeed("down", device.name)
    assert leftovers(device.name, str(device.mountpoint)) == []


@pytest.mark.parametrize("standby", ["on", "off"])
@pytest.mark.parametrize("pause_s", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_the_worker_dies_and_then_the_supervisor(standby: str, pause_s: float) -> None:
    """Without a standby the replacement must have been started: 0.02 s is enough for that."""
    if standby == "off" and not pause_s:
        pytest.skip("both at once, and there is no third")
    with device_up(*SIZE, "--standby", standby) as device:
        store(device)
        if standby == "on":
            standby_of(device.name)
        state, worker = Runtime(device.name).state(), worker_of(device.name)
        os.kill(worker, signal.SIGKILL)
        if standby == "off":
            wait_until("a replacement", lambda: len(processes_of(device.name)) > 1)
        time.sleep(pause_s)  # the moment is what is tried
        os.kill(state.supervisor_pid, signal.SIGKILL)
        if standby == "on":
            check_goes_on(device, worker, state.supervisor_pid)
        else:
            assert is_stored(device)


def test_the_supervisor_dies_and_then_the_worker(device: TestDevice) -> None:
    """The standby waits for the lock, as long as that takes."""
    state, worker = Runtime(device.name).state(), worker_of(device.name)
    os.kill(state.supervisor_pid, signal.SIGKILL)
    wait_until("its end", lambda: state.supervisor_pid not in processes_of(device.name))
    assert is_stored(device)
    os.kill(worker, signal.SIGKILL)
    check_goes_on(device, worker, state.supervisor_pid)


def test_up_at_once(device: TestDevice) -> None:
    """Before the standby that took over could note itself."""
    state, worker = Runtime(device.name).state(), worker_of(device.name)
    for pid in (worker, state.supervisor_pid):
        os.kill(pid, signal.SIGKILL)
    succeed("up", device.name, "--no-swapon")
    check_goes_on(device, worker, state.supervisor_pid)


def test_up_goes_on_with_the_worker_that_serves_and_its_standby(device: TestDevice) -> None:
    """Others would take memory, which there may be none of."""
    before = Runtime(device.name).state()
    os.kill(before.supervisor_pid, signal.SIGKILL)
    succeed("up", device.name, "--no-swapon")
    after = Runtime(device.name).state()
    assert after.supervisor_pid != before.supervisor_pid
    assert (after.worker_pid, after.standby_pid) == (before.worker_pid, before.standby_pid)
    assert (after.status, after.restarts) == ("running", before.restarts)
    assert set(processes_of(device.name)) == {
        after.supervisor_pid,
        before.worker_pid,
        before.standby_pid,
    }
    for _ in range(2):  # the one that was adopted, then the one that stood in line
        serving = worker_of(device.name)
        os.kill(serving, signal.SIGKILL)
        assert is_stored(device)
        wait_until("another", partial(_is_replaced, device, serving))
    assert worker_of(device.name) != before.standby_pid


def _is_replaced(device: TestDevice, worker: int) -> bool:
    return worker_of(device.name) != worker


def test_a_worker_that_was_adopted_is_replaced_by_restart(device: TestDevice) -> None:
    before = Runtime(device.name).state()
    os.kill(before.supervisor_pid, signal.SIGKILL)
    succeed("up", device.name, "--no-swapon")
    succeed("restart", device.name)
    assert is_stored(device)
    after = Runtime(device.name).state()
    assert not {after.worker_pid, standby_of(device.name)} & {
        before.worker_pid,
        before.standby_pid,
    }


def test_a_worker_that_was_adopted_and_hangs_is_replaced(device: TestDevice) -> None:
    before = Runtime(device.name).state()
    os.kill(before.supervisor_pid, signal.SIGKILL)
    succeed("up", device.name, "--no-swapon")
    assert before.worker_pid
    os.kill(before.worker_pid, signal.SIGSTOP)
    wait_until("its end", lambda: before.worker_pid not in processes_of(device.name))
    assert is_stored(device)
    wait_until("the standby", lambda: worker_of(device.name) == before.standby_pid)


def test_down_without_a_supervisor_ends_the_standby_too(device: TestDevice) -> None:
    os.kill(device.info["supervisor_pid"], signal.SIGKILL)
    os.kill(standby_of(device.name), signal.SIGSTOP)
    succeed("down", device.name)
    assert leftovers(device.name, str(device.mountpoint)) == []


def test_a_standby_that_dies_is_replaced(device: TestDevice) -> None:
    killed = standby_of(device.name)
    os.kill(killed, signal.SIGKILL)
    wait_until("another", lambda: Runtime(device.name).state().standby_pid not in (None, killed))
    state = Runtime(device.name).state()
    assert (state.worker_pid, state.restarts) == (device.info["worker_pid"], 0)
    os.kill(worker_of(device.name), signal.SIGKILL)
    assert is_stored(device)
    standby = state.standby_pid
    wait_until("it to serve", lambda: Runtime(device.name).state().worker_pid == standby)


def test_killed_while_a_standby_is_made(device: TestDevice) -> None:
    killed = standby_of(device.name)  # it is still there while it ends
    os.kill(killed, signal.SIGKILL)
    known = {device.info["supervisor_pid"], device.info["worker_pid"], killed}
    wait_until("another to be started", lambda: bool(set(processes_of(device.name)) - known))
    os.kill(device.info["supervisor_pid"], signal.SIGKILL)
    os.kill(device.info["worker_pid"], signal.SIGKILL)
    check_goes_on(device, *known)


def test_all_three_die(device: TestDevice) -> None:
    kill_all(device.name)
    status = device.status()
    assert (status["status"], "no process serves it" in status["reason"]) == ("dead", True)


def test_restart_replaces_the_standby_as_well(device: TestDevice) -> None:
    """Both have the code that is installed now."""
    before = standby_of(device.name)
    succeed("restart", device.name)
    state = Runtime(device.name).state()
    assert state.worker_pid not in (before, device.info["worker_pid"])
    wait_until("the former to end", lambda: before not in processes_of(device.name))
    assert standby_of(device.name) != before


def test_its_memory_is_said(device: TestDevice) -> None:
    standby = standby_of(device.name)
    wait_until("its memory to be counted", lambda: device.stat("mem_standby") > 0)
    assert device.status()["standby_pid"] == standby
    assert device.stat("mem_fixed") > 2 * device.stat("mem_standby") > 0


def test_without() -> None:
    with device_up(*SIZE, "--standby", "off") as device:
        store(device)
        os.kill(device.info["worker_pid"], signal.SIGKILL)
        assert is_stored(device)
        succeed("restart", device.name)
        assert len(processes_of(device.name)) == 2
        assert device.status()["standby_pid"] is None
        with suppress(OSError):
            assert device.stat("mem_standby") == 0
