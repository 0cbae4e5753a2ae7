"""A supervisor that died: what systemd stored comes first, and of a worker only what is root's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from types import SimpleNamespace
from typing import cast

import pytest

from fuseswap.daemon import bring_up
from fuseswap.daemon.config import DeviceConfig
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux.ending import Undo


@contextmanager
def worker_with(fd: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Process id of one that has it."""
    command = [sys.executable, "-c", "input()"]
    with Popen(command, stdin=PIPE, pass_fds=[fd]) as running:
        monkeypatch.setattr(bring_up, "workers_of", lambda runtime: [running.pid])
        yield running.pid
        running.kill()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    settings = SimpleNamespace(region_bytes={"header": 4096})
    monkeypatch.setattr(Runtime, "config", lambda self: settings)
    return Runtime("some")


def test_memory_of_ours_is_taken(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.memfd_create("header")
    with worker_with(fd, monkeypatch) as pid:
        taken = bring_up._taken_from(pid, runtime, {"header": fd})
    assert os.path.samestat(os.fstat(taken["header"]), os.fstat(fd))
    os.close(taken["header"])
    os.close(fd)


def test_what_is_no_memory_is_not(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open").touch()
    (tmp_path / "open").chmod(0o666)
    opened = [
        os.open("/dev/null", os.O_RDWR),
        os.open(sys.executable, os.O_RDONLY),
        os.open(tmp_path / "open", os.O_RDWR),
    ]
    for fd in opened:
        with worker_with(fd, monkeypatch) as pid:
            before = len(os.listdir("/proc/self/fd"))
            assert bring_up._taken_from(pid, runtime, {"header": fd}) == {}
            assert len(os.listdir("/proc/self/fd")) == before
        os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's memory is needed")
def test_memory_of_another_user_is_not(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    os.seteuid(65534)
    fd = os.memfd_create("header")
    os.seteuid(0)
    assert os.fstat(fd).st_uid == 65534
    with worker_with(fd, monkeypatch) as pid:
        assert bring_up._taken_from(pid, runtime, {"header": fd}) == {}
        assert bring_up._taken_from(pid, runtime, {"tier:far": fd}) == {}
    os.close(fd)


def test_what_was_stored_comes_first(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    adopted: list[dict[str, int]] = []
    monkeypatch.setattr(bring_up, "is_up", lambda runtime: True)
    monkeypatch.setattr(bring_up, "supervisor_of", lambda runtime: None)
    monkeypatch.setattr(bring_up, "_settle_limits", lambda settings, config: None)
    monkeypatch.setattr(bring_up, "_files_of_worker", lambda runtime: {"header": 9, "fuse": 8})
    monkeypatch.setattr(bring_up, "_adopt", lambda runtime, files: adopted.append(files))
    monkeypatch.setattr(bring_up, "_start_swap", lambda *given, **named: None)
    monkeypatch.setattr(bring_up, "describe", lambda runtime: None)
    bring_up.up(
        runtime,
        cast(DeviceConfig, SimpleNamespace(priority=0)),
        Undo(),
        swapon=False,
        stored={"header": 3},
    )
    assert adopted == [{"header": 3, "fuse": 8}]
