"""Workers found by their command line, and none that only looks like one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen

import pytest

from fuseswap.daemon import strays


@contextmanager
def process(name: str, directory: str, user: int | None = None) -> Iterator[Popen[bytes]]:
    """One with the command line of a worker, that waits."""
    arguments = json.dumps({"name": name, "directory": directory, "fds": {"header": 3}})
    program = "print(flush=True); input()"
    command = [sys.executable, "-c", program, "fuseswap.daemon.worker", arguments]
    with Popen(command, stdin=PIPE, stdout=PIPE, user=user) as running:
        assert running.stdout is not None
        running.stdout.readline()
        yield running
        running.kill()


def test_by_name_and_directory() -> None:
    with process("swap0", "/run/here") as ours, process("swap0", "/run/elsewhere"):
        assert strays.workers_of("swap0", "/run/here") == [ours.pid]
        assert strays.workers_of("swap1", "/run/here") == []
        assert strays.arguments_of(ours.pid)["fds"] == {"header": 3}


NO_LINES_OF_OURS = [
    "[" * 100_000,
    '{"a":' * 20_000,
    "1" * 5000,
    "[]",
    "{}",
    '{"identity": {}}',
    "[",
]


@pytest.mark.parametrize("last", [*NO_LINES_OF_OURS, '{"identity": 1}'])
def test_a_line_that_says_nothing_is_passed_over(
    last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a program with another user's rights, which any user may start.

    No process: a device of another version beside this test would stumble over it.
    """
    words = [b"fuseswap.daemon.worker", b"fuseswap.tiers.tier_process", last.encode()]
    monkeypatch.setattr(strays, "words_of", lambda pid: words)
    assert strays.workers_of("swap0", "/run/here") == []
    assert strays.tier_processes_of("an id") == []


def test_end_waits_for_the_end() -> None:
    with process("swap0", "/run/here") as ours:
        strays.end(lambda: strays.workers_of("swap0", "/run/here"))
        assert ours.wait(0) == -9
    assert strays.open_checked(ours.pid, lambda: [ours.pid]) is None
    assert strays.arguments_of(ours.pid) == {}


def test_a_number_that_is_used_again_gets_no_signal() -> None:
    """Found, then no more: between the two looks another process has come by it."""
    with process("swap0", "/run/elsewhere") as stranger:
        for signalled in (strays.end, strays.wake):
            finds = [[], [stranger.pid]]  # the last one first
            signalled(finds.pop)
            assert finds == []
        assert stranger.poll() is None


def test_supervisors_by_name_and_directory() -> None:
    program = "print(flush=True); input()"
    words = ["fuseswap.daemon.supervisor", "swap0", "3", "{}", "/run/here"]
    command = [sys.executable, "-c", program, *words]
    with Popen(command, stdin=PIPE, stdout=PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        assert strays.supervisors_of("swap0", "/run/here") == [running.pid]
        assert strays.supervisors_of("swap0", "/run/elsewhere") == []
        assert strays.supervisors_of("swap1", "/run/here") == []
        running.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's process is needed")
def test_the_process_of_another_user_is_not_ours() -> None:
    with process("swap0", "/run/here", user=65534) as stranger:
        assert strays.workers_of("swap0", "/run/here") == []
        assert strays.words_of(stranger.pid) == []
