"""The processes of a device, found without its supervisor.

``state.json`` says which worker serves, but only once it is written.  A standby may have taken
over a moment ago, or a process was being started when its supervisor died.  These are found by
their command line, in ``/proc``.  Only those count that could be ours by more than that
(``own_process.py``): any user may have ``su`` carry such a line.

A number may be used again before a signal is sent.  So a process is held first (pidfd), then looked
for once more, and signalled through what holds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Callable, Collection, Iterator
from typing import Any

from fuseswap.linux.own_process import is_own

_MODULE = b"fuseswap.daemon.worker"
_SUPERVISOR = b"fuseswap.daemon.supervisor"
_TIER_MODULE = b"fuseswap.tiers.tier_process"
_MOST_BYTES = 1 << 20  # of a command line; ours are shorter
_MAX_FD = (1 << 31) - 1


Find = Callable[[], Collection[int]]


def workers_of(name: str, directory: str) -> list[int]:
    """Process ids of every worker of the device ``name`` with this runtime ``directory``."""
    found = []
    for pid in _processes():
        said = arguments_of(pid)
        if said.get("name") == name and said.get("directory") == directory:
            found.append(pid)
    return found


def supervisors_of(name: str, directory: str) -> list[int]:
    """As `workers_of`; those of older versions did not say where their directory is."""
    wanted = {os.fsencode(name), os.fsencode(directory)}
    return [pid for pid in _processes() if wanted <= set(_words_after(pid, _SUPERVISOR))]


def words_of(pid: int) -> list[bytes]:
    """The command line of a process of ours; empty for any other, or one that has ended."""
    words = _line_of(pid)
    return words if words and is_own(pid) else []


def _words_after(pid: int, module: bytes) -> list[bytes]:
    """What a process of ours that runs ``module`` was told; empty for any other.

    Not a script, whose words are its caller's: before those its path stands.
    """
    words = _line_of(pid)
    if module not in words:
        return []
    at = words.index(module)
    is_script = any(word.startswith(b"/") for word in words[1:at])
    return words[at + 1 :] if not is_script and is_own(pid) else []


def _line_of(pid: int) -> list[bytes]:
    """Of a process that is of our user at first sight: cheap, since all are looked at."""
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return []
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(_MOST_BYTES).split(b"\0")[:-1]
    except OSError:
        return []


def arguments_of(pid: int) -> dict[str, Any]:
    """What a worker was started with; empty for any other process, or one that has ended."""
    return _arguments(_words_after(pid, _MODULE))


def descriptors_of(pid: int) -> dict[str, int]:
    """Those that a worker was started with, by name; empty as for `arguments_of`."""
    said = arguments_of(pid).get("fds")
    numbers = said if isinstance(said, dict) else {}
    return {name: fd for name, fd in numbers.items() if type(fd) is int and 0 <= fd <= _MAX_FD}


def _arguments(words: list[bytes]) -> dict[str, Any]:
    try:
        said = json.loads(words[-1]) if words else None
    except (ValueError, RecursionError):  # no line of ours
        return {}
    return said if isinstance(said, dict) else {}


def _processes() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdecimal())


def tier_processes_of(identity: str) -> list[int]:
    """Process ids of tier processes that a former supervisor started for this tier."""
    found = []
    for pid in _processes():
        said = _arguments(_words_after(pid, _TIER_MODULE)).get("identity")
        if isinstance(said, dict) and said.get("id") == identity:
            found.append(pid)
    return found


def wake(find: Find) -> None:
    """Let those that ``find`` finds go on, where they were stopped."""
    for pid in find():
        with _held(pid, find) as pidfd:
            if pidfd is not None:
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)


def end(find: Find) -> None:
    """SIGKILL to those that ``find`` finds; wait until they are gone.  A child is to be reaped."""
    for pid in find():
        with _held(pid, find) as pidfd:
            if pidfd is not None:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                wait(pidfd)


def wait(pidfd: int, timeout_s: float | None = None) -> bool:
    """Whether it has ended within that time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else max(0.0, timeout_s) * 1000))


@contextlib.contextmanager
def _held(pid: int, find: Find) -> Iterator[int | None]:
    """A pidfd of ``pid``, or None where that is not what ``find`` finds, or no more."""
    pidfd = open_checked(pid, find)
    try:
        with contextlib.suppress(ProcessLookupError):
            yield pidfd
    finally:
        if pidfd is not None:
            os.close(pidfd)


def open_checked(pid: int, find: Find) -> int | None:
    """A pidfd of ``pid``, which ``find`` has found, and finds still; the caller closes it."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if pid in find():
        return pidfd
    os.close(pidfd)
    return None
