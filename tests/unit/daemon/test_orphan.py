"""What a worker without a supervisor notes, and when it leaves that alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuseswap.daemon.device_files import DeviceState, Status
from fuseswap.daemon.orphan import OrphanNote
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.scribe import Scribe
from fuseswap.linux.json_file import write_json
from fuseswap.linux.process import start_ticks
from fuseswap.linux.protect import Protection

PROTECTION = Protection(memory_locked=True, io_flusher=True, oom_score_adj=-1000)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    runtime = Runtime("swap0")
    runtime.directory.mkdir()
    runtime.config_path.touch()
    before = {"status": "degraded", "reason": "because", "worker_pid": None, "restarts": 2}
    write_json(runtime.state_path, {**before, "memory": "tmpfs"})
    return runtime


@pytest.fixture
def scribe() -> Scribe:
    scribe = Scribe(2, may_swap=True)
    scribe.start()
    return scribe


def test_it_serves(runtime: Runtime, scribe: Scribe) -> None:
    note = OrphanNote(runtime, scribe)
    assert not note.take(PROTECTION), "not written yet"
    assert scribe.flush()
    assert note.take(PROTECTION)
    assert runtime.state() == DeviceState(
        status=Status.RUNNING,
        worker_pid=os.getpid(),
        worker_started=start_ticks(os.getpid()),
        restarts=3,
        memory="tmpfs",
        protection=PROTECTION,
    )


def test_a_command_that_changes_the_device_comes_first(runtime: Runtime, scribe: Scribe) -> None:
    note = OrphanNote(runtime, scribe)
    with runtime.lock():
        assert not note.take(PROTECTION)
        assert scribe.flush()
        assert not note.take(PROTECTION)
        assert runtime.state().status == Status.DEGRADED
        assert scribe.flush()
    assert not note.take(PROTECTION)
    assert scribe.flush()
    assert note.take(PROTECTION)


def test_nothing_is_noted_of_a_device_that_is_gone(runtime: Runtime, scribe: Scribe) -> None:
    runtime.remove()
    note = OrphanNote(runtime, scribe)
    note.take(PROTECTION)
    assert scribe.flush()
    assert note.take(PROTECTION)
    assert not runtime.directory.exists()


def test_nothing_is_noted_where_another_supervisor_went_on_with_it(
    runtime: Runtime, scribe: Scribe
) -> None:
    text = "import sys; print('there', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", text, "fuseswap.daemon.supervisor"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as supervisor:
        assert supervisor.stdout
        assert supervisor.stdout.readline() == b"there\n"  # just begun it has no command line
        noted = runtime.state()._replace(supervisor_pid=supervisor.pid)
        runtime.write_state(noted)
        note = OrphanNote(runtime, scribe)
        note.take(PROTECTION)
        assert scribe.flush()
        assert note.take(PROTECTION), "and it is not asked again"
        assert runtime.state() == noted
        supervisor.communicate()
