"""Attempts at the file system, the runtime directory, locks, sockets, and links in ``/tmp``."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
from collections.abc import Iterator

from fuseswap.linux import syscalls
from tests.benchmarks.hostile.attempts import Attempt, Breach, Targets, each

_HANDLES = 4096
_WATCHED = 0x100 | 0x2  # IN_CREATE, IN_MODIFY
_ODD = "\x1b]0;owned\x07\x1b[2J\r"  # a title, an empty screen, and the line anew
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def opened(path: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor; raises `OSError`."""
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield fd
    finally:
        os.close(fd)


def _read(path: str) -> None:
    with opened(path) as fd:
        os.read(fd, 1 << 20)


def _read_end(path: str) -> None:
    with opened(path) as fd:
        os.pread(fd, 4096, os.lseek(fd, 0, os.SEEK_END) - 4096)


def _write(path: str) -> None:
    with opened(path, os.O_WRONLY) as fd:
        os.write(fd, b"1")


def _lock(path: str) -> None:
    with opened(path) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _record_lock(path: str) -> None:
    with opened(path) as fd:
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _enter(path: str) -> None:
    """And stay, where it works."""
    os.chdir(path)
    os.chdir("/")


def _watch(path: str) -> None:
    fd = syscalls.checked(_libc.inotify_init1(os.O_CLOEXEC), "inotify_init1")
    try:
        watched = _libc.inotify_add_watch(fd, os.fsencode(path), _WATCHED)
        syscalls.checked(watched, "inotify_add_watch")
    finally:
        os.close(fd)


def _connect(path: str) -> None:
    def connect(kind: int) -> None:
        with socket.socket(socket.AF_UNIX, kind) as ours:
            ours.connect(path)

    each((socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET), connect)


def _many_handles(targets: Targets) -> None:
    """Each is refused, and costs what a refusal costs."""
    for number in range(_HANDLES):
        paths = targets.texts if number & 1 else targets.swapfiles
        path = paths[number // 2 % len(paths)]
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError as exc:
            last = exc
        else:
            raise Breach(path)
    raise last


def _by_a_mere_path(targets: Targets) -> None:
    """O_PATH asks for no right to the directory itself: what is below it is refused then."""

    def look(path: str) -> None:
        with opened(path, os.O_PATH) as fd:
            os.open("metrics", os.O_RDONLY, dir_fd=fd)

    each(targets.mounts, look)


def _how_full(targets: Targets) -> None:
    """df: the kernel answers it, with zeros."""
    for path in targets.mounts:
        with contextlib.suppress(PermissionError):
            found = os.statvfs(path)
            if found.f_blocks or found.f_files:
                raise Breach(f"{path} has {found.f_blocks} blocks")


def _abstract_sockets(_: Targets) -> None:
    """Sockets without a file have no mode: there may be none of ours."""
    with open("/proc/net/unix", errors="replace") as file:
        names = [line.split()[-1] for line in file if "@" in line and "fuseswap" in line]
    for name in names:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ours:
            ours.connect("\0" + name.removeprefix("@"))
        raise Breach(name)


def _plant_links(targets: Targets) -> None:
    """Where root might write to a name that it can guess."""
    for path, victim in targets.links.items():
        with contextlib.suppress(FileExistsError, PermissionError):
            os.symlink(victim, path)


def _odd_names(targets: Targets) -> None:
    """A file and a process whose name a terminal would obey."""
    path = f"{targets.home}/fuseswap-{targets.name}-{_ODD}"
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)
    with open("/proc/self/comm", "w") as file:
        file.write(_ODD)


def _hard_link(path: str) -> None:
    """To have it under a name of his own; removed again at once."""
    mine = f"/tmp/fuseswap-linked-{os.getpid()}"
    os.link(path, mine)
    os.unlink(mine)


def _exchange(path: str) -> None:
    os.rename(path, path + ".old")
    os.rename(path + ".old", path)


def _make_beside(path: str) -> None:
    made = os.path.join(path, "made")
    os.mkdir(made)
    os.rmdir(made)


def _all_paths(targets: Targets) -> list[str]:
    return [*_hidden(targets), *targets.known]


def _hidden(targets: Targets) -> list[str]:
    return [*targets.texts, *targets.swapfiles, *targets.private]


def _kept(targets: Targets) -> list[str]:
    return [*targets.private, *targets.known]


def _all_directories(targets: Targets) -> list[str]:
    return [targets.runtime_dir, *targets.directories]


ATTEMPTS = (
    Attempt("list directories", lambda t: each(_all_directories(t), os.listdir)),
    Attempt("read metrics and statistics", lambda t: each(t.texts, _read)),
    Attempt("stat of files", lambda t: each(_hidden(t), os.stat)),
    Attempt("read the swapfile's beginning", lambda t: each(t.swapfiles, _read)),
    Attempt("read the swapfile's end", lambda t: each(t.swapfiles, _read_end)),
    Attempt("write to any file", lambda t: each(_all_paths(t), _write)),
    Attempt("read log, configuration, backing file", lambda t: each(_kept(t), _read)),
    Attempt("open 4096 handles", _many_handles),
    Attempt("open below a mere path", _by_a_mere_path),
    Attempt("df", _how_full, may=True),
    Attempt("sit in a directory", lambda t: each(_all_directories(t), _enter)),
    Attempt("watch a directory", lambda t: each(_all_directories(t), _watch)),
    Attempt("make a directory", lambda t: each(_all_directories(t), _make_beside)),
    Attempt("flock", lambda t: each([*_all_paths(t), *_all_directories(t)], _lock)),
    Attempt("record lock", lambda t: each(_all_paths(t), _record_lock)),
    Attempt("rename files", lambda t: each(_kept(t), _exchange)),
    Attempt("hard link to files", lambda t: each(_kept(t), _hard_link)),
    Attempt("change modes", lambda t: each(_all_paths(t), lambda path: os.chmod(path, 0o666))),
    Attempt("connect to the control socket", lambda t: each(t.sockets, _connect)),
    Attempt("connect to abstract sockets", _abstract_sockets, may=True),
    Attempt("plant links in /tmp", _plant_links, may=True),
    Attempt("names with escapes", _odd_names, may=True),
)
