"""One worker after another, with processes that are none: replaced, handed over, rolled back."""

from __future__ import annotations

import mmap
import os
import signal
from pathlib import Path
from typing import cast

import pytest

from fuseswap.daemon.call_filter import REFUSED_CALL_AT, CallFilter
from fuseswap.daemon.device_files import DeviceState, Status
from fuseswap.daemon.handover import Handover
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.scribe import Scribe
from fuseswap.daemon.service import MAX_FAILURES, Service
from fuseswap.daemon.spawner import Spawner
from fuseswap.daemon.standby import Standby
from fuseswap.daemon.state_file import StateFile
from fuseswap.daemon.watchdog import Watchdog
from fuseswap.daemon.worker_process import WorkerProcess
from fuseswap.errors import HostError
from fuseswap.linux.protect import Protection

PROTECTION = Protection(memory_locked=True, io_flusher=True, oom_score_adj=-1000)


class FakeWorker:
    """Does what it is told, but for what ``fails``; notes what it did."""

    def __init__(self, pid: int, did: list[str], *fails: str) -> None:
        self.pid = pid
        self._did = did
        self._fails = fails
        self.code = -9
        self.protection = PROTECTION

    def _do(self, what: str, how: str = "") -> Protection:
        self._did.append(f"{self.pid} {what}{how}")
        if what in self._fails:
            raise HostError(f"{self.pid} can't {what}")
        return self.protection

    def wait_prepared(self) -> None:
        self._do("prepare")

    def attach(self, *, strictly: bool = False) -> Protection:
        return self._do("attach", " strictly" if strictly else "")

    def pause(self) -> None:
        self._do("pause")

    def go_on(self) -> Protection:
        return self._do("go on")

    def kill(self) -> int:
        self._do("kill")
        return self.code

    def reap(self) -> int:
        self._do("reap")
        return self.code


class Scene:
    """A supervisor's parts around workers that a test makes; also what they ask for."""

    def __init__(self, path: Path) -> None:
        self.did: list[str] = []
        self.kept: list[FakeWorker] = []
        self.next: list[FakeWorker] = []
        self.filtered: list[bool] = []  # of each that was spawned
        self.asked = 0
        self.rereads = 0
        self.served_well = False
        self.not_renewed = ""
        self.scribe = Scribe(os.open(path / "log", os.O_WRONLY | os.O_CREAT), may_swap=True)
        runtime = Runtime("swap0")
        runtime.directory.mkdir()
        self.state = StateFile(runtime, self.scribe, DeviceState(), lambda: None)
        self.header = mmap.mmap(-1, mmap.PAGESIZE)
        self.filter = CallFilter(self.header)
        standby, spawner = cast(Standby, self), cast(Spawner, self)
        self.service = Service(
            spawner,
            standby,
            cast(Watchdog, self),
            self.state,
            self.scribe,
            self.filter,
            first_pause_s=0.0,
        )
        self.handover = Handover(self.service, standby, spawner, self.state, self.scribe)

    # As a standby, a spawner and a watchdog.

    def take(self) -> FakeWorker | None:
        return self.kept.pop() if self.kept else None

    def ask(self) -> None:
        self.asked += 1

    def end_of_renewal(self) -> None:
        if self.not_renewed:
            raise HostError(self.not_renewed)

    def spawn(
        self, *, fresh: bool = False, rereads: bool = False, filtered: bool = True
    ) -> FakeWorker:
        assert (fresh, rereads) == (False, False)
        self.filtered.append(filtered)
        return self.next.pop(0)

    def reread(self) -> None:
        self.rereads += 1

    def begin(self) -> None:
        pass

    def did_well(self) -> bool:
        return self.served_well

    # What a test says.

    def worker(self, pid: int, *fails: str) -> FakeWorker:
        return FakeWorker(pid, self.did, *fails)

    def start(self, pid: int, *fails: str) -> None:
        self.service.start(cast(WorkerProcess, self.worker(pid, *fails)))
        self.did.clear()

    def standing(self) -> tuple[object, ...]:
        now = self.state.now
        return now.status, now.worker_pid, now.restarts


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    return Scene(tmp_path)


def test_the_new_one_serves_before_the_old_one_ends(scene: Scene) -> None:
    scene.start(1)
    scene.kept = [scene.worker(2)]
    assert scene.handover.hand_over().startswith("worker 1 replaced by 2, pause ")
    assert scene.did == ["1 pause", "2 attach strictly", "1 kill"]
    assert scene.standing() == ("running", 2, 1)
    assert scene.asked == 2, "another standby, after each"
    assert scene.scribe.flush()
    assert scene.rereads == 1


def test_one_that_cannot_be_made_leaves_the_old_one_alone(scene: Scene) -> None:
    scene.start(1)
    scene.not_renewed = "no such module"
    with pytest.raises(HostError, match="worker 1 goes on, the new one can't start: no such"):
        scene.handover.hand_over()
    assert (scene.did, scene.standing()) == ([], ("running", 1, 0))


def test_one_that_cannot_attach_has_the_old_one_go_on(scene: Scene) -> None:
    scene.start(1)
    scene.kept = [scene.worker(2, "attach")]
    with pytest.raises(HostError, match="worker 1 goes on, the new one can't attach: 2 can't"):
        scene.handover.hand_over()
    assert scene.did == ["1 pause", "2 attach strictly", "2 kill", "1 go on"]
    assert scene.standing() == ("running", 1, 0)


def test_where_neither_can_another_is_started(scene: Scene) -> None:
    scene.start(1, "go on")
    scene.kept = [scene.worker(2, "attach")]
    scene.next = [scene.worker(3)]
    with pytest.raises(HostError, match=r"2 can't attach; nor did the old one: .*is running"):
        scene.handover.hand_over()
    assert scene.did[-4:] == ["1 go on", "1 kill", "3 prepare", "3 attach"]
    assert scene.standing() == ("running", 3, 1)


def test_one_that_does_not_pause_is_replaced_as_after_a_crash(scene: Scene) -> None:
    scene.start(1, "pause")
    scene.kept = [scene.worker(2)]
    scene.handover.hand_over()
    assert scene.did == ["1 pause", "1 kill", "2 attach"]
    assert scene.standing() == ("running", 2, 1)


def test_a_standby_goes_on_at_once(scene: Scene) -> None:
    scene.start(1)
    assert scene.service.reap() == (1, -9)
    scene.kept = [scene.worker(2)]
    scene.service.replace("worker 1 ended")
    assert scene.did == ["1 reap", "2 attach"]
    assert scene.standing() == ("running", 2, 1)


def test_after_so_many_failures_all_is_kept_until_asked(scene: Scene) -> None:
    scene.start(1)
    scene.service.reap()
    scene.next = [scene.worker(2 + number, "attach") for number in range(MAX_FAILURES)]
    scene.service.replace("worker 1 ended")
    assert scene.next == []
    assert scene.service.worker is None
    assert scene.standing() == (Status.DEGRADED, None, MAX_FAILURES)
    assert scene.state.now.reason == f"{1 + MAX_FAILURES} can't attach"
    scene.next = [scene.worker(20)]
    scene.service.try_again()
    assert scene.standing() == ("running", 20, MAX_FAILURES + 1)
    assert scene.state.now.reason is None


def test_a_worker_that_served_is_no_failure(scene: Scene) -> None:
    scene.served_well = True
    for pid in range(2 * MAX_FAILURES):
        scene.start(pid)
        scene.service.reap()
        scene.next = [scene.worker(100 + pid)]
        scene.service.replace("it ended")
    assert scene.standing() == ("running", 100 + pid, 2 * MAX_FAILURES)


def test_a_new_one_serves_where_none_did(scene: Scene) -> None:
    scene.kept = [scene.worker(2)]
    assert scene.handover.hand_over() == "worker 2 serves again"
    assert scene.standing() == ("running", 2, 1)


def test_none_serves_and_the_new_one_has_ended_too(scene: Scene) -> None:
    with pytest.raises(HostError, match="and so did the new one"):
        scene.handover.hand_over()


def dies_of_a_call(scene: Scene, pid: int, number: int, code: int = -signal.SIGSYS) -> None:
    scene.header[REFUSED_CALL_AT : REFUSED_CALL_AT + 4] = (number + 1).to_bytes(4, "little")
    worker = scene.worker(pid)
    worker.code = code
    scene.service.start(cast(WorkerProcess, worker))
    scene.service.reap()


def test_after_two_that_a_call_ended_the_next_has_no_filter(scene: Scene) -> None:
    dies_of_a_call(scene, 1, 41)
    assert (scene.filter.for_worker, scene.filter.for_standby) == (True, False)
    dies_of_a_call(scene, 2, 41)
    assert scene.filter.call == 41
    scene.next = [scene.worker(3)]
    scene.service.replace("worker 2 ended")
    assert scene.filtered == [False]
    assert scene.scribe.flush(60.0)
    said = Runtime("swap0").state().seccomp_off
    assert said is not None
    assert said.startswith("worker was killed for a call that is not allowed: ")
    scene.filter.try_again()
    filtered = scene.worker(4)
    filtered.protection = PROTECTION._replace(seccomp=True)
    scene.service.start(cast(WorkerProcess, filtered))
    assert scene.filter.for_standby
    assert scene.scribe.flush()
    assert Runtime("swap0").state().seccomp_off is None


def test_another_end_between_two_starts_the_count_anew(scene: Scene) -> None:
    dies_of_a_call(scene, 1, 41)
    scene.start(2)
    scene.service.reap()
    dies_of_a_call(scene, 3, 41)
    assert (scene.filter.for_worker, scene.filter.for_standby) == (True, False)


def test_of_an_adopted_worker_the_note_tells(scene: Scene) -> None:
    """Its exit code goes to another process."""
    for pid in (1, 2):
        dies_of_a_call(scene, pid, 41, code=-1)
    assert (scene.filter.for_worker, scene.filter.call) == (False, 41)


def test_one_that_a_call_ends_before_it_serves_counts(scene: Scene) -> None:
    scene.start(1)
    scene.service.reap()
    failing = [scene.worker(2 + number, "attach") for number in range(2)]
    for worker in failing:
        worker.code = -signal.SIGSYS
    scene.next = [*failing, scene.worker(4)]
    scene.service.replace("worker 1 ended")
    assert scene.filtered == [True, True, False]
    assert scene.standing() == ("running", 4, 3)


def test_it_stays_off_where_a_supervisor_follows_another() -> None:
    with mmap.mmap(-1, mmap.PAGESIZE) as header:
        following = CallFilter(header, off=True)
        assert (following.for_worker, following.was_left_off) == (False, True)
