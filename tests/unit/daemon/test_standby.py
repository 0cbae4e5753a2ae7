"""The thread that keeps a standby, with processes that are none."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from fuseswap.daemon.adopted_worker import ServingWorker
from fuseswap.daemon.standby import Standby
from fuseswap.daemon.worker_process import WorkerProcess
from fuseswap.errors import HostError

LONGEST_S = 20.0


class FakeWorker:
    """Prepared when it is told to be; ends when it is killed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.may_prepare = threading.Event()
        self.may_prepare.set()
        self.failure = ""
        self.killed = threading.Event()
        self.reaped = threading.Event()
        self.in_line = 0

    def bring_in_line(self) -> None:
        self.in_line += 1

    def wait_prepared(self) -> None:
        assert self.may_prepare.wait(LONGEST_S)
        if self.failure:
            raise HostError(self.failure)

    def die(self) -> None:
        os.eventfd_write(self.pidfd, 1)

    def signal_kill(self) -> None:
        self.killed.set()

    def kill(self) -> None:
        self.killed.set()
        self.reap()

    def reap(self) -> int:
        self.reaped.set()
        return -9


class Scene:
    """What was spawned, and who was told."""

    def __init__(self) -> None:
        self.workers: list[FakeWorker] = []
        self.told = threading.Semaphore(0)
        self.spawned = threading.Semaphore(0)
        self.asked_for_room = threading.Semaphore(0)
        self.has_room = True
        self.renewals: list[bool] = []  # of each that was spawned: is it to be as the first
        self.prepare: Callable[[FakeWorker], None] = lambda worker: None
        self.standby: Standby | None = None

    def spawn(self, renewing: bool) -> WorkerProcess:
        self.renewals.append(renewing)
        worker = FakeWorker(len(self.workers) + 1)
        self.prepare(worker)
        self.workers.append(worker)
        self.spawned.release()
        return cast(WorkerProcess, worker)

    def room(self) -> bool:
        self.asked_for_room.release()
        return self.has_room

    def start(self, *, keep: bool = True) -> Standby:
        self.standby = Standby(
            self.spawn, self.told.release, self.room, keep=keep, first_pause_s=0.001
        )
        self.standby.start()
        return self.standby

    def wait_told(self) -> None:
        assert self.told.acquire(timeout=LONGEST_S)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    for worker in scene.workers:
        worker.may_prepare.set()
    if standby := scene.standby:
        standby.stop()
        standby._thread.join(LONGEST_S)
        for fd in (standby._wake, standby.news, standby.begun):  # a supervisor's end closes them
            os.close(fd)


def test_one_is_kept_and_another_follows_it(scene: Scene) -> None:
    standby = scene.start()
    scene.wait_told()
    assert standby.pid == 1
    assert cast(FakeWorker, standby.take()).pid == 1
    standby.ask()
    scene.wait_told()  # there is none
    scene.wait_told()
    assert standby.pid == 2


def test_one_that_is_just_being_prepared_is_waited_for(scene: Scene) -> None:
    scene.prepare = lambda worker: worker.may_prepare.clear()
    standby = scene.start()
    assert scene.spawned.acquire(timeout=LONGEST_S)
    taken: list[ServingWorker | None] = []
    thread = threading.Thread(target=lambda: taken.append(standby.take()))
    thread.start()
    scene.workers[0].may_prepare.set()
    thread.join(LONGEST_S)
    assert [worker.pid for worker in taken if worker] == [1]


def test_one_that_is_just_being_prepared_is_told_what_was_attached(scene: Scene) -> None:
    """It would serve as it is where its supervisor dies."""
    scene.prepare = lambda worker: worker.may_prepare.clear()
    standby = scene.start()
    assert scene.spawned.acquire(timeout=LONGEST_S)
    poll = select.poll()
    poll.register(standby.begun, select.POLLIN)
    assert poll.poll(LONGEST_S * 1000), "also what was attached while it was spawned"
    standby.bring_in_line()
    assert not poll.poll(0)
    assert scene.workers[0].in_line == 1
    scene.workers[0].may_prepare.set()
    scene.wait_told()
    standby.bring_in_line()
    assert scene.workers[0].in_line == 2
    standby.take()
    standby.bring_in_line()
    assert scene.workers[0].in_line == 2


def test_none_is_kept_while_its_memory_is_needed(scene: Scene) -> None:
    standby = scene.start()
    scene.wait_told()
    standby.keep(False)
    assert scene.workers[0].reaped.is_set()
    assert standby.take() is None
    standby.ask()
    standby.keep(True)
    while standby.pid is None:
        scene.wait_told()
    assert (standby.pid, len(scene.workers)) == (2, 2)


def test_one_that_is_being_prepared_is_not_kept_either(scene: Scene) -> None:
    scene.prepare = lambda worker: worker.may_prepare.clear()
    standby = scene.start()
    assert scene.spawned.acquire(timeout=LONGEST_S)
    standby.keep(False)
    scene.workers[0].failure = "killed"
    scene.workers[0].may_prepare.set()
    assert scene.workers[0].reaped.wait(LONGEST_S)
    assert standby.take() is None


def test_none_is_kept_where_none_may_be(scene: Scene) -> None:
    standby = scene.start(keep=False)
    standby.keep(True)
    standby.renew()
    assert scene.spawned.acquire(timeout=LONGEST_S)
    scene.wait_told()
    assert len(scene.workers) == 1


def test_none_is_made_without_room(scene: Scene) -> None:
    scene.has_room = False
    standby = scene.start()
    for _ in range(3):  # it asks again
        assert scene.asked_for_room.acquire(timeout=LONGEST_S)
    assert (standby.take(), scene.workers) == (None, [])
    scene.has_room = True
    scene.wait_told()
    assert standby.pid == 1


def test_one_that_dies_is_reaped_and_followed(scene: Scene) -> None:
    standby = scene.start()
    scene.wait_told()
    scene.workers[0].die()
    scene.wait_told()
    scene.wait_told()
    assert scene.workers[0].reaped.is_set()
    assert standby.pid == 2


def test_one_that_fails_is_tried_again(scene: Scene) -> None:
    def fail_first(worker: FakeWorker) -> None:
        worker.failure = "" if scene.workers else "no such module"

    scene.prepare = fail_first
    standby = scene.start()
    scene.wait_told()
    assert (standby.pid, scene.workers[0].reaped.is_set()) == (2, True)


def test_an_error_that_was_not_foreseen_is_told_and_does_not_end_it(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail_first(worker: FakeWorker) -> None:
        if worker.pid == 1 and len(scene.renewals) == 1:
            raise ZeroDivisionError("a mistake")

    scene.prepare = fail_first
    standby = scene.start()
    scene.wait_told()
    assert standby.pid == 1
    told = capfd.readouterr().err
    assert "thread 'standby'" in told
    assert "a mistake" in told


def test_renewal_replaces_it_only_when_that_went_well(scene: Scene) -> None:
    standby = scene.start()
    scene.wait_told()

    def fail(worker: FakeWorker) -> None:
        worker.failure = "no such module"

    scene.prepare = fail
    renew(standby)
    with pytest.raises(HostError, match="no such module"):
        standby.end_of_renewal()
    assert (standby.pid, scene.workers[0].killed.is_set()) == (1, False)
    scene.prepare = lambda worker: None
    renew(standby)
    standby.end_of_renewal()
    assert (standby.pid, scene.workers[0].reaped.is_set()) == (3, True)
    assert scene.renewals == [False, True, True]


def test_renewal_without_one_to_keep(scene: Scene) -> None:
    standby = scene.start(keep=False)
    assert standby.take() is None
    renew(standby)
    standby.end_of_renewal()
    assert cast(FakeWorker, standby.take()).pid == 1


def test_the_end_does_not_wait_for_one_that_is_being_made(scene: Scene) -> None:
    scene.prepare = lambda worker: worker.may_prepare.clear()
    standby = scene.start()
    assert scene.spawned.acquire(timeout=LONGEST_S)
    worker = scene.workers[0]

    def end() -> None:
        assert worker.killed.wait(LONGEST_S)
        worker.may_prepare.set()

    thread = threading.Thread(target=end)
    thread.start()
    standby.stop()
    thread.join()


def renew(standby: Standby) -> None:
    os.set_blocking(standby.news, True)
    standby.renew()
    os.eventfd_write(standby.news, os.eventfd_read(standby.news))  # wait, and leave it readable


def test_whatever_goes_wrong_the_process_is_ended(scene: Scene) -> None:
    def prepare(worker: FakeWorker) -> None:
        def fail() -> None:
            raise KeyError("word")

        worker.wait_prepared = fail  # type: ignore[method-assign]

    scene.prepare = prepare
    scene.start()
    assert scene.spawned.acquire(timeout=LONGEST_S)
    assert scene.workers[0].killed.wait(LONGEST_S)
    assert scene.workers[0].reaped.wait(LONGEST_S)
