"""systemd's protocols, against a stand-in for its socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.linux import sd_notify


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(str(tmp_path / "notify"))
        theirs.settimeout(10.0)
        monkeypatch.setenv(sd_notify.SOCKET, str(tmp_path / "notify"))
        yield theirs


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two descriptors handed over, as far as the environment says; nothing is made inheritable."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_FDNAMES", "header:fuse")
    monkeypatch.setattr(os, "set_inheritable", lambda fd, inheritable: None)
    return monkeypatch


def test_fields_are_lines(manager: socket.socket) -> None:
    sd_notify.notify("READY=1", "MAINPID=7")
    assert manager.recv(4096) == b"READY=1\nMAINPID=7"


def test_an_abstract_address(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"fuseswap-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind("\0" + name)
        monkeypatch.setenv(sd_notify.SOCKET, "@" + name)
        sd_notify.notify("READY=1")
        assert theirs.recv(4096) == b"READY=1"


def test_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sd_notify.SOCKET, raising=False)
    assert not sd_notify.is_asked_for()
    sd_notify.notify("READY=1")


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(sd_notify.SOCKET, str(tmp_path / "nobody"))
    with pytest.raises(OSError, match="No such file"):
        sd_notify.notify("READY=1")


def test_a_manager_that_does_not_read_is_not_waited_for(manager: socket.socket) -> None:
    def tell_for_ever() -> None:
        while True:
            sd_notify.notify("STATUS=running")

    with pytest.raises(BlockingIOError):
        tell_for_ever()


def test_a_stored_descriptor_is_the_same_file(manager: socket.socket, tmp_path: Path) -> None:
    with open(tmp_path / "memory", "wb") as file:
        sd_notify.store({"arena": file.fileno()})
        assert manager.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=arena"
        text, (kept,), _, _ = socket.recv_fds(manager, 4096, 1)
        assert text == b"FDSTORE=1\nFDNAME=arena"
        try:
            assert os.path.samestat(os.fstat(kept), os.fstat(file.fileno()))
        finally:
            os.close(kept)


def test_what_was_kept_is_found_by_name_once(listed: pytest.MonkeyPatch) -> None:
    assert sd_notify.stored() == {"header": 3, "fuse": 4}
    assert sd_notify.stored() == {}
    assert not any(name.startswith("LISTEN_") for name in os.environ)


def test_what_another_process_was_handed_is_not_ours(listed: pytest.MonkeyPatch) -> None:
    listed.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert sd_notify.stored() == {}


def test_nothing_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)
    assert sd_notify.stored() == {}
