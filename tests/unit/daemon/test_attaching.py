"""How a supervisor has an attachment come and go, with workers that are none."""

from __future__ import annotations

import fcntl
import json
import os
import select
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from fuseswap.daemon import attaching, attachment
from fuseswap.daemon.attaching import Attaching
from fuseswap.daemon.attachment import Attached, Attachment
from fuseswap.daemon.device_files import DeviceState, settings_from
from fuseswap.daemon.holdings import Holdings
from fuseswap.daemon.petitions import ATTACH, DETACH, Petitions
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.scribe import Scribe
from fuseswap.daemon.service import Service
from fuseswap.daemon.standby import Standby
from fuseswap.errors import HostError
from tests.unit.daemon.test_device_files import OLD

LONGEST_S = 10.0


class FakeWorker:
    """Is told, and answers what a test says."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._seen = scene.holdings.attached.now
        self.told: list[str] = []
        self.says: deque[dict[str, Any]] = deque()
        self.channel_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.has_ended = False
        self.hears = True

    def bring_in_line(self) -> None:
        if self.has_ended:
            raise HostError("it has ended")
        if not self.hears:
            raise HostError("it hears nothing; first: fuseswap restart")
        now = self._scene.holdings.attached.now
        self.told += [f"take {one.name}" for one in now if one not in self._seen]
        self._seen = now

    def drop(self, one: Attachment) -> None:
        self.told.append(f"drop {one.name}")

    def has_dropped(self, one: Attachment) -> None:
        self._seen = tuple(other for other in self._seen if other != one)

    def answer(self) -> dict[str, Any] | None:
        if self.has_ended:
            return None
        return self.says.popleft() if self.says else {}

    def say(self, answer: str, name: str, error: str | None = None) -> None:
        self.says.append({"answer": answer, "name": name, "error": error})


class Scene:
    """A supervisor's parts around `Attaching`, some of them played by this."""

    def __init__(self) -> None:
        self.runtime = Runtime("swap0")
        self.settings = settings_from(OLD, "here")
        self.runtime.create(self.settings)
        self.scribe = Scribe(os.open("/dev/null", os.O_WRONLY), may_swap=True)
        self.holdings = Holdings(self.settings, {}, DeviceState(), Attached())
        self.worker: FakeWorker | None = FakeWorker(self)
        self.in_line = 0
        self.begun = os.eventfd(0, os.EFD_NONBLOCK)
        self.argument = ""
        self.fds: list[int] = []
        self.answers: list[tuple[str, str]] = []
        self.attaching = Attaching(
            self.runtime,
            self.holdings,
            cast(Petitions, self),
            cast(Service, self),
            cast(Standby, self),
            self.scribe,
        )

    # As petitions and a standby.

    def take_descriptors(self) -> list[int]:
        fds, self.fds = self.fds, []
        return fds

    def answer(self, kind: str, text: str) -> None:
        self.answers.append((kind, text))

    def bring_in_line(self) -> None:
        self.in_line += 1

    # What a test does.

    def ask_to_attach(self, name: str, **description: Any) -> int:
        """Returns a descriptor of the same file."""
        fd = os.memfd_create("tier")
        fcntl.flock(fd, fcntl.LOCK_EX)
        self.fds = [os.dup(fd)]
        self.argument = json.dumps(Attachment(name, (0,), description).to_json())
        self.attaching.hear(ATTACH)
        return fd

    def ask_to_detach(self, name: str) -> None:
        self.argument = name
        self.attaching.hear(DETACH)

    def attach(self, name: str, **description: Any) -> int:
        fd = self.ask_to_attach(name, **description)
        self.written()
        assert self.worker
        self.worker.say("take", name)
        self.attaching.look()
        assert self.answers.pop()[0] == "done"
        return fd

    def written(self) -> None:
        """The scribe has noted, and the supervisor hears of it."""
        poll = select.poll()
        poll.register(self.attaching.noted, select.POLLIN)
        assert poll.poll(LONGEST_S * 1000)
        self.attaching.react({self.attaching.noted})

    def noted(self) -> list[str]:
        return [one.name for one in self.runtime.config().attachments]

    def held(self) -> list[str]:
        return [one.name for one in self.holdings.attached.now]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    scene = Scene()
    scene.scribe.start()
    yield scene
    assert scene.scribe.flush()
    for one in scene.holdings.attached.now:
        attachment.close(one.fds)


def test_it_is_noted_before_a_worker_hears_of_it(scene: Scene) -> None:
    fd = scene.ask_to_attach("tier:a", kind="file")
    assert scene.worker
    assert (scene.worker.told, scene.held(), scene.answers) == ([], [], [])
    scene.written()
    assert scene.noted() == scene.held() == ["tier:a"]
    assert scene.worker.told == ["take tier:a"]
    assert scene.answers == [], "it has not said that it could"
    scene.worker.say("take", "tier:a")
    scene.attaching.react({scene.worker.channel_fd})
    assert scene.answers == [("done", "tier 'a' is attached")]
    assert scene.in_line, "and the standby has it"
    held = scene.holdings.attached.now[0]
    assert os.path.sameopenfile(fd, held.fds[0])
    assert scene.runtime.config().attachments == (held,), "with its number"


def test_a_worker_that_was_adopted_is_to_be_replaced_first(scene: Scene) -> None:
    """It has no channel, and would not have it when it is noted."""
    assert scene.worker
    scene.worker.hears = False
    scene.ask_to_attach("tier:a")
    assert scene.answers == [("refused", "it hears nothing; first: fuseswap restart")]
    assert scene.held() == []


def test_one_that_the_worker_can_not_use_leaves_no_trace(scene: Scene) -> None:
    scene.ask_to_attach("tier:a")
    scene.written()
    fds = scene.holdings.attached.now[0].fds
    assert scene.worker
    scene.worker.say("take", "tier:a", "too many tiers")
    scene.attaching.look()
    assert scene.answers == [], "not before it is noted"
    scene.written()
    assert scene.answers == [("refused", "too many tiers")]
    assert scene.noted() == scene.held() == []
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fds[0])


def test_a_worker_that_dies_meanwhile_is_no_failure(scene: Scene) -> None:
    scene.ask_to_attach("tier:a")
    assert scene.worker
    scene.worker.has_ended = True
    scene.written()
    scene.attaching.look()
    assert scene.answers == [], "the next one has not begun"
    scene.worker = FakeWorker(scene)
    scene.attaching.look()
    assert scene.answers == [("done", "tier 'a' is attached")]
    assert scene.held() == ["tier:a"]


def test_without_a_worker_the_next_one_has_it(scene: Scene) -> None:
    scene.worker = None
    scene.ask_to_attach("tier:a")
    scene.written()
    assert scene.answers == [("done", "tier 'a' is attached")]
    assert scene.noted() == ["tier:a"]


def test_one_that_does_not_answer(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attaching, "ANSWER_TIMEOUT_S", -1.0)
    scene.ask_to_attach("tier:a")
    scene.written()
    assert scene.answers[0][0] == "refused"
    assert scene.held() == ["tier:a"], "it may be writing there by now"
    assert scene.worker
    scene.worker.say("take", "tier:a", "no room")
    scene.attaching.look()
    scene.written()
    assert scene.noted() == scene.held() == [], "late, but it was heard"
    assert len(scene.answers) == 1


def test_what_is_refused_at_once(scene: Scene) -> None:
    scene.attach("tier:a")
    for name, says in (("tier:a", "already"), ("tier:A", "no name"), ("dog:a", "no name")):
        scene.ask_to_attach(name)
        assert scene.answers.pop()[0] == "refused", says
    scene.argument = "{"
    scene.attaching.hear(ATTACH)
    scene.fds = []
    scene.argument = json.dumps(Attachment("tier:b", (0,), {}).to_json())
    scene.attaching.hear(ATTACH)
    scene.ask_to_detach("tier:b")
    assert [text for _, text in scene.answers] == [
        "the request is not a JSON object",
        "1 descriptors were announced, 0 came",
        "there is no tier 'b'",
    ]


def test_a_full_disk_is_no_attachment(scene: Scene) -> None:
    scene.runtime.config_path.unlink()
    fd = scene.ask_to_attach("tier:a")
    scene.written()
    assert scene.answers[0][0] == "refused"
    assert "cannot be noted" in scene.answers[0][1]
    assert scene.held() == []
    os.close(fd)


def test_it_goes_once_the_worker_says_so(scene: Scene) -> None:
    files = [{"path": "/a", "size_bytes": 1, "made": True, "former": None}]
    fd = scene.attach("tier:a", files=files)
    scene.ask_to_detach("tier:a")
    assert scene.worker
    assert scene.worker.told[-1] == "drop tier:a"
    assert scene.held() == scene.noted() == ["tier:a"]
    scene.worker.say("drop", "tier:a")
    scene.attaching.look()
    assert (scene.held(), scene.answers) == ([], [])
    scene.written()
    assert (scene.noted(), scene.answers) == ([], [("done", "tier 'a' is gone")])
    another = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whoever still has the old one
    os.close(another)


def test_one_that_is_in_use_stays(scene: Scene) -> None:
    scene.attach("tier:a")
    scene.ask_to_detach("tier:a")
    assert scene.worker
    scene.worker.say("drop", "tier:a", "tier 'a' has 3 segments; drain it first")
    scene.attaching.look()
    assert scene.answers == [("refused", "tier 'a' has 3 segments; drain it first")]
    assert scene.held() == scene.noted() == ["tier:a"]


def test_the_next_worker_has_it_where_the_one_before_did_not_say(scene: Scene) -> None:
    scene.attach("tier:a")
    scene.ask_to_detach("tier:a")
    scene.worker = FakeWorker(scene)
    scene.attaching.look()
    assert scene.answers == [("refused", "the worker was replaced meanwhile; try again")]
    assert scene.held() == ["tier:a"]


def test_one_that_has_ended_is_listened_to_no_more(scene: Scene) -> None:
    assert scene.worker
    assert scene.worker.channel_fd in scene.attaching.fds()
    scene.worker.has_ended = True
    scene.attaching.react({scene.worker.channel_fd})
    assert scene.attaching.fds() == [scene.attaching.noted, scene.begun]


def test_a_standby_that_was_just_spawned_is_brought_in_line(scene: Scene) -> None:
    """Not a second later: the supervisor may be dead by then."""
    assert scene.begun in scene.attaching.fds()
    scene.attaching.react({scene.begun})
    assert scene.in_line == 1
