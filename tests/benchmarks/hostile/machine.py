"""Attempts at devices and namespaces, and all that a user may take of what users share.

Bounded: his processes, descriptors and memory have the limits that ``user.py`` sets.  An ordinary
user of a machine has larger ones.  Memory above his own is not among the attempts: he may fill the
swap, and that is the kernel's to limit (``docs/security.md``).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

from fuseswap.linux import syscalls
from fuseswap.units import MIB
from tests.benchmarks.hostile.attempts import BREACH, Attempt, Breach, Targets, each
from tests.benchmarks.hostile.files import opened

_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x20000
_BIND, _REMOUNT = 4096, 32
_SIT_S = 20.0  # in a namespace with a copy of the mounts
_CHILDREN, _MOST_SITTING = 64, 8
_PIPES, _PIPE_BYTES = 32, MIB
_FILE_BYTES = 16 * MIB
_AIO_CALLS = {"x86_64": (206, 207), "aarch64": (0, 1), "riscv64": (0, 1)}
_AIO_SLOTS = 4096
_SHM_READ_ONLY = 0o10000
_COMMANDS = (("down",), ("restart",), ("status", "--json"), ("set", "writeback_batch_size=1"))
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.shmat.restype = ctypes.c_ssize_t
_sitting: list[int] = []  # processes; at most `_MOST_SITTING`


def _open_both_ways(path: str) -> None:
    each((os.O_RDONLY, os.O_RDWR), lambda flags: os.close(os.open(path, flags | os.O_NONBLOCK)))


def _write(path: str) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.write(fd, b"1")


def _swap_off(path: str) -> None:
    syscalls.checked(_libc.swapoff(os.fsencode(path)), "swapoff")


def _swap_on(path: str) -> None:
    syscalls.checked(_libc.swapon(os.fsencode(path), 0), "swapon")


def _unmount(path: str) -> None:
    syscalls.umount(path, lazy=True)


def _mount_over(path: str) -> None:
    syscalls.mount("none", path, "tmpfs", 0, "")


def _in_a_child(act: Callable[[], str], *, stays: bool = False) -> str:
    """What ``act`` says there; ``stays``: the child sits for a while, and keeps its namespaces."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(ours)
            try:
                said = act()
            except Breach as exc:
                said = f"{BREACH}{exc}"
            except OSError as exc:
                said = json.dumps(exc.errno)
            os.write(theirs, said.encode())
            os.close(theirs)
            if stays:
                time.sleep(_SIT_S)
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours) as file:
        said = file.read()
    if stays:
        _keep(pid)
    else:
        os.waitpid(pid, 0)
    if said.startswith(BREACH):
        raise Breach(said.removeprefix(BREACH))
    if said.isdecimal():
        raise OSError(int(said), "in a namespace")
    return said


def _keep(pid: int) -> None:
    """The child goes on by itself, until there are too many."""
    _sitting.append(pid)
    if len(_sitting) > _MOST_SITTING:
        first = _sitting.pop(0)
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)


def _become_root_of_a_namespace() -> None:
    user, group = os.getuid(), os.getgid()
    syscalls.checked(_libc.unshare(_NEW_USER | _NEW_MOUNTS), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {user} 1"),
        ("gid_map", f"0 {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _as_root_of_a_namespace(targets: Targets) -> None:
    """He has a copy of all mounts there, and every capability; none of both counts for ours."""

    def act() -> str:
        _become_root_of_a_namespace()
        aside = tempfile.mkdtemp()
        with contextlib.suppress(OSError):
            syscalls.mount(targets.mounts[-1], aside, "", _BIND, "")
        for path in (aside, *targets.mounts):
            with contextlib.suppress(OSError):
                syscalls.mount("none", path, "", _REMOUNT | _BIND, "allow_other")
        ways = (os.listdir, os.chdir, _unmount)
        each([partial(way, path) for path in targets.mounts for way in ways], lambda way: way())
        return "never comes here"

    _in_a_child(act)


def _sit_in_a_namespace(targets: Targets) -> None:
    """With a copy of every mount, which keeps them alive; and with descriptors by mere path."""

    def act() -> str:
        _become_root_of_a_namespace()
        with contextlib.suppress(OSError):
            os.open(targets.mounts[-1], os.O_PATH)
        return "sits"

    _in_a_child(act, stays=True)


def _overlay(targets: Targets) -> None:
    def act() -> str:
        _become_root_of_a_namespace()
        aside = tempfile.mkdtemp()
        syscalls.mount("none", aside, "overlay", 0, f"lowerdir={targets.mounts[-1]}:/")
        with open(f"{aside}/metrics") as file:
            return file.read() and "read"

    _in_a_child(act)


def _shared_segments(_: Targets) -> None:
    """System V segments of root have numbers that everybody sees."""
    with open("/proc/sysvipc/shm") as file:
        lines = [line.split() for line in file.readlines()[1:]]
    for fields in lines:
        if fields[7] == "0" and _libc.shmat(int(fields[1]), None, _SHM_READ_ONLY) != -1:
            raise Breach(f"System V segment {fields[1]}")


def _descriptors(_: Targets) -> None:
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as exc:
        if exc.errno not in (errno.EMFILE, errno.ENFILE):
            raise
    finally:
        for fd in held:
            os.close(fd)


def _processes(_: Targets) -> None:
    children = []
    with contextlib.suppress(BlockingIOError):  # his limit
        for _number in range(_CHILDREN):
            pid = os.fork()
            if not pid:
                os._exit(0)
            children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


def _memory(_: Targets) -> None:
    with mmap.mmap(-1, _FILE_BYTES) as memory:
        memory[::4096] = bytes(len(memory) // 4096)


def _pipes(_: Targets) -> None:
    held: list[int] = []
    try:
        for _number in range(_PIPES):
            held += os.pipe2(os.O_NONBLOCK)
            with contextlib.suppress(PermissionError):
                fcntl.fcntl(held[-1], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            with contextlib.suppress(BlockingIOError):
                os.write(held[-1], bytes(_PIPE_BYTES))
    finally:
        for fd in held:
            os.close(fd)


def _disk(_: Targets) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(_FILE_BYTES))
        file.flush()
        os.fdatasync(file.fileno())


def _sync(_: Targets) -> None:
    """Of all file systems; not waited for, since others may write much."""
    pid = os.fork()
    if not pid:
        os.sync()
        os._exit(0)
    _keep(pid)


def _asynchronous_io(_: Targets) -> None:
    """All contexts that the machine allows (aio-max-nr), for a moment: others may want some."""
    setup, destroy = _AIO_CALLS[os.uname().machine]
    held = []
    try:
        while True:
            context = ctypes.c_ulong(0)
            found = _libc.syscall(ctypes.c_long(setup), _AIO_SLOTS, ctypes.byref(context))
            syscalls.checked(found, "io_setup")
            held.append(context)
    except OSError as exc:
        if exc.errno not in (errno.EAGAIN, errno.ENOMEM):
            raise
    finally:
        for context in held:
            _libc.syscall(ctypes.c_long(destroy), context)


def _commands(targets: Targets) -> None:
    """The command itself, at a device that is not his."""
    variables = {**os.environ, "FUSESWAP_RUNTIME_DIR": os.path.dirname(targets.runtime_dir)}
    for command, *options in _COMMANDS:
        line = [sys.executable, "-m", "fuseswap", command, targets.name, *options]
        done = subprocess.run(line, env=variables, capture_output=True, check=False)
        if done.returncode == 0:
            raise Breach(f"fuseswap {command}")


ATTEMPTS = (
    Attempt("open devices", lambda t: each(t.devices, _open_both_ways)),
    Attempt("write to attributes", lambda t: each(t.attributes, _write)),
    Attempt("swapoff", lambda t: each(t.devices[:1], _swap_off)),
    Attempt("swapon", lambda t: each(t.devices[:1], _swap_on)),
    Attempt("unmount", lambda t: each(t.mounts, _unmount)),
    Attempt("mount over it", lambda t: each(t.mounts, _mount_over)),
    Attempt("as root of a namespace", _as_root_of_a_namespace),
    Attempt("overlay in a namespace", _overlay),
    Attempt("sit in a namespace", _sit_in_a_namespace, may=True),
    Attempt("System V segments of root", _shared_segments, may=True),
    Attempt("all his descriptors", _descriptors, may=True, every=3, of_machine=True),
    Attempt("64 processes", _processes, may=True, every=3, of_machine=True),
    Attempt("16 MiB of memory", _memory, may=True, of_machine=True),
    Attempt("32 MiB of pipes", _pipes, may=True, every=3, of_machine=True),
    Attempt("16 MiB on the disk", _disk, may=True, every=10, of_machine=True),
    Attempt("sync", _sync, may=True, every=10, of_machine=True),
    Attempt("all AIO contexts", _asynchronous_io, may=True, every=3, of_machine=True),
    Attempt("commands", _commands, may=True, every=20),
)
