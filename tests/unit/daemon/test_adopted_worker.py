"""A worker of a supervisor that died: processes that hold the lock of a state, or wait for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fuseswap.daemon import attachment
from fuseswap.daemon.adopted_worker import AdoptedWorker, who_serves
from fuseswap.daemon.attachment import Attached, Attachment
from fuseswap.daemon.device_files import DeviceState
from fuseswap.daemon.supervisor import Supervisor
from fuseswap.errors import HostError
from fuseswap.linux.protect import Protection

PROTECTION = Protection(memory_locked=True, io_flusher=True, oom_score_adj=-1000)
# As a worker is found: by its module and what it was started with.
_LOCKS = (
    "import fcntl, os, sys\n"
    "fd = os.open(sys.argv[2], os.O_RDWR)\n"
    "print('there', flush=True)\n"
    "fcntl.lockf(fd, fcntl.LOCK_EX)\n"
    "print('locked', flush=True)\n"
    "sys.stdin.read()\n"
)


class Workers:
    """Some that want the lock of one header; ended with the test."""

    def __init__(self, path: Path) -> None:
        self.header = path / "header"
        self.header.write_bytes(bytes(4096))
        self.fd = os.open(self.header, os.O_RDWR)
        self.directory = str(path)
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *fds: int) -> subprocess.Popen[str]:
        """One that is there and has ``fds``; it may still wait for the lock."""
        said = json.dumps({"name": "swap0", "directory": self.directory})
        command = [sys.executable, "-c", _LOCKS, "fuseswap.daemon.worker", str(self.header), said]
        pipe = subprocess.PIPE
        started = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, pass_fds=fds)
        self.started.append(started)
        self.hear(started, "there")
        return started

    def hear(self, process: subprocess.Popen[str], word: str) -> None:
        """Until it says ``word``."""
        assert process.stdout
        assert process.stdout.readline() == f"{word}\n"

    def who_serves(self) -> tuple[int, set[int]]:
        return who_serves(self.fd, "swap0", self.directory)

    def adopt(self, process: subprocess.Popen[str]) -> AdoptedWorker:
        return AdoptedWorker(process.pid, self.fd, PROTECTION)

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()
        os.close(self.fd)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path)
    yield made
    made.close()


def test_who_has_the_lock_serves_and_the_others_would(workers: Workers) -> None:
    serves = workers.start()
    workers.hear(serves, "locked")
    waits = workers.start()
    assert workers.who_serves() == (serves.pid, {waits.pid})


def test_without_a_worker_nobody_serves(workers: Workers) -> None:
    assert workers.who_serves() == (0, set())


def test_one_that_was_prepared_is_waited_for(workers: Workers) -> None:
    dying = workers.start()
    workers.hear(dying, "locked")
    waits = workers.start()
    dying.kill()
    dying.communicate()
    assert workers.who_serves() == (waits.pid, set())


def test_it_attaches_by_itself_when_the_one_before_ends(workers: Workers) -> None:
    serves = workers.start()
    workers.hear(serves, "locked")
    first, second = workers.adopt(serves), workers.adopt(workers.start())
    assert first.attach() == PROTECTION
    ender = threading.Timer(0.05, first.signal_kill)
    ender.start()
    assert second.attach() == PROTECTION
    assert first.reap() == -1
    ender.join()
    second.kill()


def test_one_that_ends_instead_is_an_error(workers: Workers) -> None:
    serves = workers.start()
    workers.hear(serves, "locked")
    second = workers.adopt(workers.start())
    second.signal_kill()
    with pytest.raises(HostError, match="does not go on"):
        second.attach()
    assert second.reap() == -1


def test_it_can_not_be_paused(workers: Workers) -> None:
    adopted = workers.adopt(workers.start())
    with pytest.raises(HostError, match="hears no supervisor"):
        adopted.pause()
    adopted.kill()


def test_one_that_has_ended_can_not_be_adopted(workers: Workers) -> None:
    ended = workers.start()
    ended.kill()
    ended.communicate()
    with pytest.raises(HostError, match="has ended"):
        workers.adopt(ended)


def _nothing(*said: object) -> None:
    """Of a part that is not looked at."""


class Successor:
    """A supervisor that takes over, with parts that note what they are told."""

    def __init__(self, workers: Workers, attached: Attached) -> None:
        self.serves: list[int] = []
        self.kept: list[int] = []
        self.began_anew = False
        self.supervisor = Supervisor.__new__(Supervisor)
        vars(self.supervisor).update(
            _runtime=SimpleNamespace(name="swap0", directory=workers.directory),
            _holdings=SimpleNamespace(files={"header": workers.fd}, attached=attached),
            _tier_processes=SimpleNamespace(start=_nothing),
            _state=SimpleNamespace(now=DeviceState(), count_restart=_nothing),
            _service=SimpleNamespace(
                say=_nothing, now_serves=lambda worker, noted: self.serves.append(worker.pid)
            ),
            _standby=self,
            _begin_anew=self.begin_anew,
        )

    def begin_anew(self) -> None:
        self.began_anew = True

    # As a standby.

    keeps = True

    @property
    def pid(self) -> int | None:
        return self.kept[0] if self.kept else None

    def adopt(self, worker: AdoptedWorker) -> None:
        self.kept.append(worker.pid)


@pytest.fixture
def tiers() -> Iterator[tuple[Attachment, Attachment]]:
    fds = attachment.moved([os.memfd_create("first"), os.memfd_create("late")])
    yield Attachment("tier:first", fds[:1], {}), Attachment("tier:late", fds[1:], {})
    attachment.close(fds)


@pytest.mark.parametrize("has", ["less", "more", "all"])
def test_a_standby_goes_on_where_it_has_what_is_attached(
    workers: Workers, tiers: tuple[Attachment, Attachment], has: str
) -> None:
    first, late = (one.fds[0] for one in tiers)
    serves = workers.start(late)
    workers.hear(serves, "locked")
    there = {"less": (), "more": (first, late), "all": (late,)}[has]
    waits = workers.start(*there)
    successor = Successor(workers, Attached(tiers[1:]))
    successor.supervisor.take_over()
    assert successor.serves == [serves.pid]
    assert successor.kept == ([waits.pid] if has == "all" else [])
    if has != "all":
        assert waits.wait() == -9
    assert not successor.began_anew


def test_a_worker_that_lacks_what_is_attached_does_not_serve_on(
    workers: Workers, tiers: tuple[Attachment, Attachment]
) -> None:
    """It took over before it was handed that: pages there would be errors until a restart."""
    serves = workers.start(tiers[0].fds[0])
    workers.hear(serves, "locked")
    successor = Successor(workers, Attached(tiers))
    successor.supervisor.take_over()
    assert (successor.serves, successor.began_anew) == ([], True)
