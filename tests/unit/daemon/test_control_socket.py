"""The control socket: one request, one answer; a supervisor waits for no client."""

from __future__ import annotations

import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fuseswap.daemon import control_socket
from fuseswap.errors import HostError


def serve_one(
    listener: socket.socket, act: Callable[[socket.socket, str], None]
) -> threading.Thread:
    """Answer the next request with ``act`` in a thread."""

    def serve() -> None:
        listener.setblocking(True)
        asked = control_socket.accept(listener)
        assert asked is not None
        act(asked.connection, asked.text)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def ask(path: Path, act: Callable[[socket.socket, str], None]) -> str:
    with control_socket.listen(path) as listener:
        thread = serve_one(listener, act)
        try:
            return control_socket.ask(path, "restart", 10.0)
        finally:
            thread.join()


def test_what_was_done_comes_back(tmp_path: Path) -> None:
    said = ask(
        tmp_path / "control", lambda c, asked: control_socket.answer(c, "done", f"{asked}, yes")
    )
    assert said == "restart, yes"


def test_a_refusal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="not today"):
        ask(tmp_path / "control", lambda c, _: control_socket.answer(c, "refused", "not today"))


def test_a_path_of_any_length(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    assert ask(deep / "control", lambda c, _: control_socket.answer(c, "done", "yes")) == "yes"


def test_only_its_owner_may_connect(tmp_path: Path) -> None:
    with control_socket.listen(tmp_path / "control"):
        assert stat.S_IMODE((tmp_path / "control").stat().st_mode) == 0o600


def test_what_a_killed_supervisor_left_is_replaced(tmp_path: Path) -> None:
    control_socket.listen(tmp_path / "control").close()
    with pytest.raises(HostError, match="does not answer"):
        control_socket.ask(tmp_path / "control", "restart", 10.0)
    assert ask(tmp_path / "control", lambda c, _: control_socket.answer(c, "done", "yes")) == "yes"


def test_one_that_ends_before_it_answers(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="ended before"):
        ask(tmp_path / "control", lambda connection, _: connection.close())


def test_one_that_says_nothing_in_time(tmp_path: Path) -> None:
    with (
        control_socket.listen(tmp_path / "control"),
        pytest.raises(HostError, match="no answer within 0 s"),
    ):
        control_socket.ask(tmp_path / "control", "restart", 0.01)


def test_a_client_that_has_gone_is_no_error(tmp_path: Path) -> None:
    with control_socket.listen(tmp_path / "control") as listener:
        assert control_socket.accept(listener) is None
        with pytest.raises(HostError):
            control_socket.ask(tmp_path / "control", "restart", 0.01)
        asked = control_socket.accept(listener)
        assert asked is not None
        control_socket.answer(asked[0], "done", "yes")
