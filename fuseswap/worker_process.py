"""A worker as its supervisor sees it: a process, and a channel of few words.

    supervisor      worker
    (spawn)         imports, protects itself, checks the header; touches nothing
               <-   prepared
    attach     ->   takes the lock of the state, adopts what is in it
               <-   ready, with its protection; it serves from here on
    pause      ->   lets what is in flight to a tier end, drops the rest, lets go of the lock
               <-   paused
    continue   ->   as `attach`

A worker may say ``error`` and why instead of any of its words, or end.  One packet a word.
Imported by the supervisor: neither trio nor a codec here.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from typing import Any

from fuseswap.errors import HostError

_MAX_BYTES = 8192
PREPARE_TIMEOUT_S = 20.0  # 0.2 s on an idle machine
PAUSE_TIMEOUT_S = 10.0
_ATTACH_TIMEOUT_S = 20.0
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock of fcntl(2), 64 bits
_WORDS_PER_S = 50_000  # of the slot table, on a machine a hundred times too slow


class WorkerProcess:
    """One worker from spawn to reaping."""

    def __init__(self, name: str, files: dict[str, int], page_count: int, *, fresh: bool) -> None:
        """Spawn it over the descriptors ``files``; `fresh`: it makes the state."""
        self._attach_timeout_s = _ATTACH_TIMEOUT_S + page_count / _WORDS_PER_S
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        inherited = {**files, "channel": theirs.fileno()}
        for fd in inherited.values():
            os.set_inheritable(fd, True)
        arguments = {"name": name, "fds": inherited, "fresh": fresh}
        # One malloc arena: every mapped byte of the worker is locked.
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "PYTHONMALLOC": "pymalloc"}
        if not fresh:
            environment.pop("FUSESWAP_CRASH_POINT", None)  # see crashpoints.py: once is enough
        command = [sys.executable, "-m", "fuseswap.worker", json.dumps(arguments)]
        with theirs:
            self.pid = os.posix_spawn(sys.executable, command, environment)
        self.pidfd = os.pidfd_open(self.pid)

    def wait_prepared(self) -> None:
        """Until it could attach.  Raises `HostError`."""
        self._hear("prepared", PREPARE_TIMEOUT_S)

    def attach(self) -> dict[str, Any]:
        """Have it serve; returns what it says of itself.  Raises `HostError`."""
        self._say("attach")
        return self._hear("ready", self._attach_timeout_s)

    def pause(self) -> None:
        """Have it stop between two requests.  Raises `HostError`."""
        self._say("pause")
        self._hear("paused", PAUSE_TIMEOUT_S)

    def go_on(self) -> dict[str, Any]:
        """Have a paused one serve again.  Raises `HostError`."""
        self._say("continue")
        return self._hear("ready", self._attach_timeout_s)

    def signal_kill(self) -> None:
        """SIGKILL, which a stopped process obeys too."""
        os.kill(self.pid, signal.SIGKILL)

    def kill(self) -> None:
        """`signal_kill` and `reap`."""
        self.signal_kill()
        self.reap()

    def reap(self) -> int:
        """Its exit code, once every one of its threads has ended."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self._channel.close()
        return os.waitstatus_to_exitcode(status)

    def _say(self, word: str) -> None:
        try:
            self._channel.send(word.encode())
        except OSError:
            raise HostError("the worker has ended") from None

    def _hear(self, word: str, timeout_s: float) -> dict[str, Any]:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            raise HostError(f"the worker was not {word} within {timeout_s:.0f} s")
        try:
            packet = self._channel.recv(_MAX_BYTES)
        except OSError:
            packet = b""
        if not packet:
            raise HostError(f"the worker ended before it was {word}")
        said: dict[str, Any] = json.loads(packet)
        if "error" in said:
            raise HostError(said["error"])
        if said.pop("word") != word:
            raise HostError(f"the worker said something else than {word}")
        return said


def end_holder(header_fd: int) -> None:
    """Kill the worker that holds the lock of this state, and wait until it is gone.

    A POSIX lock goes with the last thread, so no write to a tier is left behind.
    """
    while pid := _holder(header_fd):
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        os.kill(pid, signal.SIGKILL)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll()
        os.close(pidfd)


def _holder(header_fd: int) -> int:
    """Process id of who holds the lock, 0 for nobody."""
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(header_fd, fcntl.F_GETLK, wanted))
    return 0 if kind == fcntl.F_UNLCK else int(pid)
