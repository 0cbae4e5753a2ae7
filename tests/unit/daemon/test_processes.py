"""Numbers of processes in ``state.json``: they count for the process that was noted, no other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from fuseswap.daemon import processes
from fuseswap.daemon.device_files import DeviceState, settings_from
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux.process import start_ticks
from tests.unit.daemon.test_device_files import OLD


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    runtime = Runtime("swap0")
    runtime.create(settings_from(OLD, ""))
    return runtime


@pytest.fixture
def stranger() -> Iterator[Popen[bytes]]:
    """Of another device: it looks as the one that was noted would."""
    words = ["fuseswap.daemon.supervisor", "swap0", "3", "{}", "/run/elsewhere"]
    command = [sys.executable, "-c", "print(flush=True); input()", *words]
    with Popen(command, stdin=PIPE, stdout=PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        yield running
        running.kill()


def test_a_number_that_is_used_again_is_another_process(
    runtime: Runtime, stranger: Popen[bytes]
) -> None:
    noted = DeviceState(supervisor_pid=stranger.pid, worker_pid=stranger.pid).with_starts()
    runtime.write_state(noted)
    assert processes.supervisor_of(runtime) == stranger.pid
    assert processes.workers_of(runtime) == [stranger.pid]
    before = noted._replace(
        supervisor_started=noted.supervisor_started - 1, worker_started=noted.worker_started - 1
    )
    runtime.write_state(before)
    assert processes.supervisor_of(runtime) is None
    assert processes.workers_of(runtime) == []
    processes.wait_for_end(runtime)
    processes.end_all(runtime)
    assert stranger.poll() is None


def test_numbers_of_processes_that_ended_are_not_shown(stranger: Popen[bytes]) -> None:
    pid = stranger.pid
    noted = DeviceState(supervisor_pid=pid, worker_pid=pid, standby_pid=pid).with_starts()
    assert noted.standby_started == start_ticks(pid)
    assert processes.alive(noted) == noted
    began = start_ticks(pid) - 1
    before = noted._replace(supervisor_started=began, worker_started=began, standby_started=began)
    found = processes.alive(before)
    assert (found.supervisor_pid, found.worker_pid, found.standby_pid) == (0, None, None)


def test_only_what_is_noted_or_has_this_directory_is_ended(
    runtime: Runtime, stranger: Popen[bytes]
) -> None:
    """A device of the same name, with other runtime files."""
    processes.end_all(runtime)
    assert stranger.poll() is None
    runtime.write_state(DeviceState(supervisor_pid=stranger.pid).with_starts())
    processes.end_all(runtime)
    assert stranger.wait(10) == -9


def test_of_an_older_version_the_command_line_decides(
    runtime: Runtime, stranger: Popen[bytes]
) -> None:
    runtime.write_state(DeviceState(supervisor_pid=stranger.pid))
    assert processes.supervisor_of(runtime) == stranger.pid
    with Popen([sys.executable, "-c", "input()"], stdin=PIPE) as other:
        runtime.write_state(DeviceState(supervisor_pid=other.pid))
        assert processes.supervisor_of(runtime) is None
        other.kill()


def test_a_process_has_one_start() -> None:
    assert start_ticks(os.getpid()) == start_ticks(os.getpid()) > 0
    with Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert start_ticks(ended.pid) == 0  # a zombie
    assert start_ticks(ended.pid) == 0
