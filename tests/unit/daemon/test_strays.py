"""Workers found by their command line, and none that only looks like one."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from fuseswap.daemon import strays

SU = shutil.which("su") or ""
PROGRAM = "print(flush=True); input()"
# Another process of the tests may be at this file, too.
HERE, ELSEWHERE = (f"/run/{where}-{os.getpid()}" for where in ("here", "elsewhere"))
WORKER = ("fuseswap.daemon.worker", json.dumps({"name": "swap0", "directory": HERE}))


@contextmanager
def waiting(*command: str, user: int | None = None) -> Iterator[Popen[bytes]]:
    """A process that has said a line, and waits."""
    with Popen(command, stdin=PIPE, stdout=PIPE, user=user) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"\n"
        yield running
        running.kill()


@contextmanager
def process(
    name: str, directory: str, user: int | None = None, fds: object = None
) -> Iterator[Popen[bytes]]:
    """One with the command line of a worker, that waits."""
    said = {"name": name, "directory": directory, "fds": fds or {"header": 3}}
    words = ("-c", PROGRAM, "fuseswap.daemon.worker", json.dumps(said))
    with waiting(sys.executable, *words, user=user) as running:
        yield running


def test_by_name_and_directory() -> None:
    with process("swap0", HERE) as ours, process("swap0", ELSEWHERE):
        assert strays.workers_of("swap0", HERE) == [ours.pid]
        assert strays.workers_of("swap1", HERE) == []
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
    monkeypatch.setattr(strays, "_words_after", lambda pid, module: [last.encode()])
    assert strays.workers_of("swap0", HERE) == []
    assert strays.tier_processes_of("an id") == []


def test_end_waits_for_the_end() -> None:
    with process("swap0", HERE) as ours:
        strays.end(lambda: strays.workers_of("swap0", HERE))
        assert ours.wait(0) == -9
    assert strays.open_checked(ours.pid, lambda: [ours.pid]) is None
    assert strays.arguments_of(ours.pid) == {}


def test_a_number_that_is_used_again_gets_no_signal() -> None:
    """Found, then no more: between the two looks another process has come by it."""
    with process("swap0", ELSEWHERE) as stranger:
        for signalled in (strays.end, strays.wake):
            finds = [[], [stranger.pid]]  # the last one first
            signalled(finds.pop)
            assert finds == []
        assert stranger.poll() is None


def test_supervisors_by_name_and_directory() -> None:
    program = "print(flush=True); input()"
    words = ["fuseswap.daemon.supervisor", "swap0", "3", "{}", HERE]
    command = [sys.executable, "-c", program, *words]
    with Popen(command, stdin=PIPE, stdout=PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        assert strays.supervisors_of("swap0", HERE) == [running.pid]
        assert strays.supervisors_of("swap0", ELSEWHERE) == []
        assert strays.supervisors_of("swap1", HERE) == []
        running.kill()


def test_fields_that_are_odd_are_no_workers() -> None:
    numbers = {"header": "../3", "slots": 1 << 40, "arena": True, "segments": 4}
    with process("swap0", HERE, fds=numbers) as odd:
        assert strays.descriptors_of(odd.pid) == {"segments": 4}
    with process("swap0", HERE, fds=[3]) as odd:
        assert strays.descriptors_of(odd.pid) == {}


def test_a_program_that_is_no_interpreter_is_not_ours() -> None:
    """`sudo` asks for a password, and all its user ids are root's."""
    with waiting("sh", "-c", "echo; read word", *WORKER) as other:
        assert strays.workers_of("swap0", HERE) == []
        assert strays.words_of(other.pid) == []


def test_nor_is_a_script_that_is_given_such_words(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(PROGRAM)
    with waiting(sys.executable, str(script), *WORKER):
        assert strays.workers_of("swap0", HERE) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root's rights are needed")
@pytest.mark.parametrize("of_user", [(65534, 0, 0), (0, 0, 65534)])
def test_nor_is_one_that_is_root_for_a_while(of_user: tuple[int, int, int]) -> None:
    """As `su`, which any user may have wait for a password."""
    with waiting(
        sys.executable, "-c", f"import os; os.setresuid{of_user}; {PROGRAM}", *WORKER
    ) as su:
        assert os.stat(f"/proc/{su.pid}").st_uid == 0
        assert strays.workers_of("swap0", HERE) == []
        assert strays.words_of(su.pid) == []


@pytest.mark.skipif(os.geteuid() != 0 or not SU, reason="root and su are needed")
def test_su_itself_is_not_ours() -> None:
    """Run by another user, as it waits for the password of root."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.setgroups([])
        os.setresuid(65534, 65534, 65534)
        os.execv(SU, ["su", "root", "--", *WORKER])
    try:
        os.read(terminal, 1)  # of what it asks
        assert os.stat(f"/proc/{pid}").st_uid == 0
        assert strays.workers_of("swap0", HERE) == []
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


@pytest.mark.skipif(os.geteuid() != 0, reason="root's rights are needed")
@pytest.mark.parametrize(
    "elsewhere", [("--pid", "--fork", "--kill-child"), ("--user", "--map-root-user")]
)
def test_nor_is_roots_in_a_container(elsewhere: tuple[str, ...]) -> None:
    with waiting("unshare", *elsewhere, sys.executable, "-c", PROGRAM, *WORKER):
        assert strays.workers_of("swap0", HERE) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root's rights are needed")
def test_nor_is_one_with_another_root_directory(tmp_path: Path) -> None:
    program = f"import os; os.chroot({str(tmp_path)!r}); {PROGRAM}"
    with waiting(sys.executable, "-c", program, *WORKER) as other:
        assert strays.words_of(other.pid) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root's rights are needed")
def test_one_that_sees_other_mounts_is_ours() -> None:
    """A service may have a mount namespace of its own."""
    with waiting("unshare", "--mount", sys.executable, "-c", PROGRAM, *WORKER) as ours:
        assert strays.workers_of("swap0", HERE) == [ours.pid]


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's process is needed")
def test_the_process_of_another_user_is_not_ours() -> None:
    with process("swap0", HERE, user=65534) as stranger:
        assert strays.workers_of("swap0", HERE) == []
        assert strays.words_of(stranger.pid) == []
