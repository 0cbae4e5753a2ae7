"""What is given up stays given up, in every thread; what a worker needs goes on."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_BEGIN = """
import ctypes, mmap, os, select, socket, threading, time
from fuseswap.linux.confine import confine, drop_capabilities, make_filter
made = make_filter()
ours, theirs = socket.socketpair()
wake = threading.Event()
failed = []
def late():
    wake.wait()
    act()
thread = threading.Thread(target=late)
def act():
    pass
"""
_CONFINE = "thread.start(); confine(made)\n"

FORBIDDEN = {
    "a program": "os.execv('/bin/true', ['true'])",
    "a process": "os.fork()",
    "a connection": "socket.socket(socket.AF_INET)",
    "a mount": "ctypes.CDLL(None).mount(b'x', b'/nowhere', b'tmpfs', 0, None)",
    "swap": "ctypes.CDLL(None).swapoff(b'/nowhere')",
    "a trace": "ctypes.CDLL(None).ptrace(16, 1, 0, 0)",
    "another user": "os.setuid(os.getuid())",
    "a namespace": "ctypes.CDLL(None).unshare(0x20000)",
}


def run(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _BEGIN + script]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_is_the_end(what: str) -> None:
    done = run(_CONFINE + FORBIDDEN[what])
    assert done.returncode == -signal.SIGSYS, done.stderr


def test_also_in_a_thread_that_was_there_before() -> None:
    script = "def act():\n    socket.socket(socket.AF_INET)\n" + _CONFINE
    done = run(script + "wake.set(); thread.join()")
    assert done.returncode == -signal.SIGSYS, done.stderr


def test_where_it_was_made_is_said() -> None:
    done = run("def wrong():\n    socket.socket(socket.AF_INET)\n" + _CONFINE + "wrong()")
    assert "in wrong" in done.stderr


NEEDED = """
ours.send(b"1"); assert theirs.recv(1) == b"1"
with open("/proc/self/status") as file: assert "Seccomp:\\t2" in file.read()
fd = os.memfd_create("x"); os.ftruncate(fd, 8192); os.pwrite(fd, b"abc", 0)
room = mmap.mmap(fd, 8192); room.madvise(mmap.MADV_DONTNEED); room.close()
poll = select.epoll(); poll.register(os.eventfd(1)); assert poll.poll(1)
os.sched_yield(); time.sleep(0.001)
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
path = f"/tmp/confined-{os.getpid()}"
with open(path + ".new", "w") as file: os.fsync(file.fileno())
os.rename(path + ".new", path); os.unlink(path)
wake.set(); thread.join()
later = threading.Thread(target=act); later.start(); later.join()
"""


def test_needed_calls_go_on() -> None:
    done = run(_CONFINE + NEEDED)
    assert (done.returncode, done.stderr) == (0, "")


def test_capabilities_are_few() -> None:
    script = """
drop_capabilities()
from fuseswap.linux.confine import KEPT
with open("/proc/self/status") as file:
    found = {name: rest for name, _, rest in (line.partition(":") for line in file)}
for name in ("CapEff", "CapPrm", "CapInh"):
    assert not int(found[name], 16) & ~KEPT, found[name]
"""
    done = run(script)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_program_is_started_to_find_the_library() -> None:
    """Where there is no ldconfig it would be a compiler."""
    script = """
import subprocess
def refuse(*arguments, **more): raise SystemError("a program")
subprocess.Popen.__init__ = refuse
assert make_filter().program
"""
    done = run(script)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_the_library_it_is_an_error() -> None:
    done = run("import sys; sys.modules['pyseccomp'] = None\nmake_filter()")
    assert "libseccomp2" in done.stderr
