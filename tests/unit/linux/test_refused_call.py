"""The number of a system call that ended a process is left for others."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fuseswap.linux import refused_call

_SCRIPT = """
import ctypes, mmap, os, signal, socket, sys
from fuseswap.linux.confine import confine, make_filter
made = make_filter()
memory = mmap.mmap(int(sys.argv[1]), 4096)
confine(made, ctypes.addressof(ctypes.c_char.from_buffer(memory)) + 8)
exec(sys.argv[2])
"""
pytestmark = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the number stays unknown on this processor"
)


def ended_by(act: str, path: Path) -> tuple[subprocess.CompletedProcess[str], int | None]:
    with open(path, "w+b") as file:
        file.truncate(4096)
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(file.fileno()), act],
            pass_fds=[file.fileno()],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        with mmap.mmap(file.fileno(), 4096) as memory:
            found = refused_call.taken(memory, 8)
            assert refused_call.taken(memory, 8) is None, "once"
            assert memory[:8] + memory[12:] == bytes(4092), "nothing but the number"
    return done, found


def test_the_number_is_left_and_the_log_says_where(tmp_path: Path) -> None:
    done, number = ended_by("socket.socket(socket.AF_INET)", tmp_path / "memory")
    assert done.returncode == -signal.SIGSYS
    assert "in <module>" in done.stderr
    assert number is not None
    assert refused_call.name_of(number) == "socket"


def test_a_signal_that_was_sent_is_no_call(tmp_path: Path) -> None:
    done, number = ended_by("os.kill(os.getpid(), signal.SIGSYS)", tmp_path / "memory")
    assert done.returncode == -signal.SIGSYS
    assert number is None


def test_where_there_is_no_handler_nothing_is_noted() -> None:
    script = "from fuseswap.linux.refused_call import note_at; assert note_at(4096) is False"
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=120)
    assert done.returncode == 0


def test_a_number_that_has_no_name_is_shown() -> None:
    assert refused_call.name_of(99999) == "number 99999"
    assert refused_call.name_of(None) == "its number is not known"


def test_what_a_worker_wrote_there_may_be_anything() -> None:
    with mmap.mmap(-1, 4096) as memory:
        memory[0:4] = b"\xff\xff\xff\xff"
        assert refused_call.taken(memory, 0) is None
