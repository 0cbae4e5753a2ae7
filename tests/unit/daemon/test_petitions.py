"""Requests to the supervisor: one after the other, and no more answers waiting than written."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fuseswap.daemon.petitions import KEEP_STANDBY, MAX_UNSENT, RESTART, Petitions
from fuseswap.daemon.scribe import Scribe


@pytest.fixture
def scribe() -> Scribe:
    return Scribe(os.open("/dev/null", os.O_WRONLY), may_swap=True)


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


@contextmanager
def listening(path: Path, scribe: Scribe, *, resumes: bool) -> Iterator[Petitions]:
    petitions = Petitions(path, scribe, resumes=resumes)
    yield petitions
    petitions._listener.close()


def hears(petitions: Petitions) -> bool:
    return petitions.fd is not None


def ask(path: Path, request: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(path))
    connection.sendall(request.encode())
    return connection


def test_the_next_is_heard_once_the_one_before_is_answered(
    tmp_path: Path, scribe: Scribe, held: ExitStack
) -> None:
    petitions = held.enter_context(listening(tmp_path / "control", scribe, resumes=True))
    with ask(tmp_path / "control", RESTART) as client:
        assert petitions.take() == RESTART
        assert not hears(petitions)
        petitions.answer("done", "it is")
        assert hears(petitions)
        assert scribe.flush()
        assert client.recv(100) == b'{"done": "it is"}\n'


def test_what_cannot_be_is_refused_at_once(tmp_path: Path, scribe: Scribe, held: ExitStack) -> None:
    petitions = held.enter_context(listening(tmp_path / "control", scribe, resumes=False))
    for request, says in (("dance", b"unknown"), (RESTART, b"pyfuse3")):
        with ask(tmp_path / "control", request) as client:
            assert petitions.take() == ""
            assert scribe.flush()
            assert says in client.recv(200)


def test_nothing_is_heard_while_too_many_answers_wait(
    tmp_path: Path, scribe: Scribe, held: ExitStack
) -> None:
    """The scribe may wait for memory as long as it likes."""
    petitions = held.enter_context(listening(tmp_path / "control", scribe, resumes=True))
    clients = []
    for _ in range(MAX_UNSENT):
        assert hears(petitions)
        clients.append(ask(tmp_path / "control", KEEP_STANDBY))
        assert petitions.take() == KEEP_STANDBY
        petitions.answer("done", KEEP_STANDBY)
    assert not hears(petitions)
    assert scribe.flush()
    assert hears(petitions)
    for client in clients:
        assert client.recv(100)
        client.close()
