"""Descriptors on their way: command, supervisor, worker; under the same number everywhere."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.daemon import attachment, control_socket
from fuseswap.daemon.attachment import FIRST_FD, LAST_FD, Attached, Attachment
from fuseswap.daemon.channel import ATTACH_STRICTLY, Channel
from fuseswap.daemon.device_files import DeviceState, settings_from
from fuseswap.daemon.holdings import Holdings
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.worker_process import WorkerProcess
from fuseswap.errors import HostError
from tests.unit.daemon.test_device_files import OLD


def memfd(content: bytes) -> int:
    fd = os.memfd_create("attached")
    os.pwrite(fd, content, 0)
    return fd


def content(fd: int) -> bytes:
    return os.pread(fd, 100, 0)


def in_use() -> set[int]:
    """Descriptors of this process with numbers of attachments."""
    found = set()
    for fd in range(FIRST_FD, LAST_FD + 1):
        with contextlib.suppress(OSError):
            os.fstat(fd)
            found.add(fd)
    return found


@pytest.fixture
def numbers() -> Iterator[None]:
    """Those that a test has taken are free again."""
    before = in_use()
    yield
    for fd in in_use() - before:
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.mark.usefixtures("numbers")
def test_they_get_numbers_of_their_own_and_keep_them() -> None:
    given = [memfd(b"a"), memfd(b"b")]
    fds = attachment.moved(given)
    assert all(FIRST_FD <= fd <= LAST_FD for fd in fds)
    assert [content(fd) for fd in fds] == [b"a", b"b"]
    for fd in given:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
    there = memfd(b"c")
    attachment.put([there, fds[1]], fds)
    assert [content(fd) for fd in fds] == [b"c", b"b"]
    assert not any(os.get_inheritable(fd) for fd in fds)


@pytest.mark.usefixtures("numbers")
def test_no_more_than_there_are_numbers() -> None:
    given = [os.open("/dev/null", os.O_RDONLY) for _ in range(LAST_FD - FIRST_FD + 2)]
    before = in_use() - {*given}
    with pytest.raises(HostError, match="can't be held"):
        attachment.moved(given)
    assert in_use() == before


def test_a_request_brings_descriptors(tmp_path: Path) -> None:
    fd = memfd(b"tier")
    with control_socket.listen(tmp_path / "control") as listener:
        with pytest.raises(HostError):
            control_socket.ask(tmp_path / "control", "attach {}", 0.01, [fd])
        asked = control_socket.accept(listener)
    assert asked is not None
    assert asked.text == "attach {}"
    assert [content(one) for one in asked.fds] == [b"tier"]
    assert not os.get_inheritable(asked.fds[0])
    attachment.close([fd, *asked.fds])
    asked.connection.close()


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    runtime = Runtime("swap0")
    runtime.create(settings_from(OLD, "here"))
    return runtime


MIRROR = Attachment("tier:m", (130, 131), {"kind": "mirror", "parts": ["file", "file"]})


def test_noting_them_changes_nothing_else(runtime: Runtime) -> None:
    found = {**json.loads(runtime.config_path.read_text()), "of_tomorrow": 1, "watchdog_s": 9}
    runtime.config_path.write_text(json.dumps(found))
    runtime.note_attachments([MIRROR])
    settings = runtime.config()
    assert settings.attachments == (MIRROR,)
    assert settings.watchdog_s == 9
    assert json.loads(runtime.config_path.read_text())["of_tomorrow"] == 1
    assert settings.held_files == ["header", "slots", "fuse", "tier:m", "tier:m/1"]
    assert settings.needed_files == ["header", "slots", "fuse"]


@pytest.mark.parametrize(
    ("attachments", "says"),
    [
        ({}, "not a list"),
        ([3], "attachments is not a JSON object"),
        ([{"name": "tier:a", "description": {}}], "fds is None, not a list of numbers"),
        ([{"name": "tier:a", "fds": [], "description": {}}], "fds is .*, not 1 to 8 numbers"),
        ([{"name": 1, "fds": [130], "description": {}}], "name is 1, not a text"),
        ([{"name": "tier:a", "fds": [130], "description": 7}], "not a JSON object"),
    ],
)
def test_a_damaged_note_is_one_line(attachments: object, says: str) -> None:
    with pytest.raises(HostError, match=says):
        settings_from({**OLD, "attachments": attachments}, "here")


@pytest.mark.usefixtures("numbers")
def test_a_supervisor_adopts_those_that_somebody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Holdings, "is_connected", lambda self: True)
    lost = Attachment("tier:lost", (140,), {})
    numbers = attachment.moved([memfd(b""), memfd(b"")])
    attachment.close(numbers)
    mirror = MIRROR._replace(fds=numbers)
    settings = settings_from(OLD, "here")._replace(attachments=(mirror, lost))
    files = {"fuse": 0, "tier:m": memfd(b"one"), "tier:m/1": memfd(b"two")}
    holdings = Holdings.adopt(settings, files, DeviceState())
    assert holdings.attached.now == (mirror,)
    assert [content(fd) for fd in holdings.attached.files().values()] == [b"one", b"two"]
    assert holdings.files == {"fuse": 0}


def test_which_process_has_them_all() -> None:
    """By their files: a number alone may be that of another, or of one that has gone."""
    numbers = attachment.moved([memfd(b"a"), memfd(b"b"), memfd(b"c")])
    first, second, third = (Attachment(f"tier:{fd}", (fd,), {}) for fd in numbers)
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=numbers[:2]) as process:
        for there, exactly, has in (
            ((first, second), True, True),
            ((first,), False, True),
            ((first,), True, False),
            ((), True, False),
            ((first, second, third), False, False),
        ):
            assert Attached(there).are_in(process.pid, alone=exactly) == has, (there, exactly)
        attachment.put([memfd(b"new")], first.fds)
        assert not Attached([first, second]).are_in(process.pid)
        assert process.stdin
        process.stdin.close()
        process.wait()
        assert not Attached([second]).are_in(process.pid)
    attachment.close(numbers)


class TestWorker:
    """A worker, as its supervisor sees it, whose process is this test."""

    __test__ = False

    def __init__(self, attached: Attached) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.go = os.eventfd(0)
        self.process = WorkerProcess.__new__(WorkerProcess)
        vars(self.process).update(
            pid=1,
            _channel=ours,
            _go=self.go,
            _attached=attached,
            _has=attached.now,
            _aside=[],
            _attach_timeout_s=1.0,
        )
        self.channel = Channel(theirs.detach(), self.go)

    def heard(self) -> tuple[str, list[bytes]]:
        """The next word, and what is in the descriptors that came with it."""
        word = self.channel.hear_first()
        fds = self.channel.take_descriptors()
        contents = [content(fd) for fd in fds]
        attachment.close(fds)
        return word, contents

    def close(self) -> None:
        self.process._channel.close()
        self.channel.socket.close()
        os.close(self.go)


@pytest.fixture
def worker() -> Iterator[TestWorker]:
    worker = TestWorker(Attached())
    yield worker
    worker.close()


def test_it_is_handed_what_it_lacks_and_no_more(worker: TestWorker) -> None:
    one = Attachment("tier:a", (memfd(b"a"),), {"kind": "file"})
    other = Attachment("tier:b", (memfd(b"b"),), {"kind": "file"})
    attached = worker.process._attached
    attached.add(one)
    worker.process.bring_in_line()
    worker.process.bring_in_line()
    attached.remove(one)
    attached.add(other)
    worker.process.bring_in_line()
    os.eventfd_write(worker.go, ATTACH_STRICTLY)
    assert worker.heard() == (f"take {json.dumps(one.to_json())}", [b"a"])
    assert worker.heard() == ("drop tier:a", [])
    assert worker.heard() == (f"take {json.dumps(other.to_json())}", [b"b"])
    assert worker.heard() == ("attach strictly", []), "words come before the event"
    attachment.close([*one.fds, *other.fds])


def test_what_came_in_place_of_one_just_like_it_is_another(worker: TestWorker) -> None:
    """The same name and number, and another file."""
    old = Attachment("tier:a", (memfd(b"old"),), {})
    attached = worker.process._attached
    attached.add(old)
    worker.process.bring_in_line()
    assert worker.heard()[1] == [b"old"]
    attached.remove(old)
    attachment.put([memfd(b"new")], old.fds)
    attached.add(Attachment("tier:a", old.fds, {}))
    worker.process.bring_in_line()
    assert worker.heard() == ("drop tier:a", [])
    assert worker.heard()[1] == [b"new"]
    worker.process.has_dropped(old)
    worker.process.bring_in_line()
    os.eventfd_write(worker.go, ATTACH_STRICTLY)
    assert worker.heard() == ("attach strictly", []), "it has all by now"
    attachment.close(old.fds)


def test_it_is_brought_in_line_before_it_serves(worker: TestWorker) -> None:
    one = Attachment("tier:a", (memfd(b"a"),), {})
    worker.process._attached.add(one)
    worker.channel.answer("take", "tier:z", None)
    worker.channel.say("ready")
    worker.process.attach()
    assert worker.heard()[1] == [b"a"]
    assert worker.heard()[0] == "attach"
    late = worker.process.answer()
    assert late == {"answer": "take", "name": "tier:z", "error": None}, "kept aside"
    assert worker.process.answer() == {}
    worker.channel.socket.close()
    assert worker.process.answer() is None
    attachment.close(one.fds)


@pytest.mark.parametrize("says", [False, True])
def test_a_worker_sees_that_its_supervisor_has_died(worker: TestWorker, says: bool) -> None:
    one = Attachment("tier:a", (memfd(b"a"),), {})
    worker.process._attached.add(one)
    worker.process.bring_in_line()
    assert not worker.channel.is_cut()
    if says:
        worker.channel.say("prepared")  # which is not read: then its end is an error first
    worker.process._channel.close()
    assert worker.channel.is_cut()
    assert worker.heard()[1] == [b"a"], "what it has still said"
    assert worker.heard() == ("", [])
    attachment.close(one.fds)


def test_one_that_has_ended_is_an_error(worker: TestWorker) -> None:
    worker.channel.socket.close()
    worker.process._attached.add(Attachment("tier:a", (0,), {}))
    with pytest.raises(HostError, match="does not hear"):
        worker.process.bring_in_line()
