"""A worker as its supervisor sees it: a process, and a channel of few words.

    supervisor      worker
    (spawn)         imports, protects itself, checks the header; touches nothing
               <-   prepared; a standby stays here for days
    attach     ->   takes the lock of the state, adopts what is in it; strictly: or says error
                    where it can't set a parameter, since another worker can go on
               <-   ready, with its protection; it serves from here on
    standby N  ->   counts the memory of process N as fixed
    take       ->   an attachment, as JSON, with its descriptors; drop NAME: one is no more
               <-   answer, only of one that serves: it has, or why not
    pause      ->   lets what is in flight to a tier end, drops the rest, lets go of the lock
               <-   paused
    continue   ->   as `attach`

A worker may say ``error`` and why instead of any of its words, or end.  Each word is a packet,
but for ``attach``, which is an eventfd.  A packet takes memory of the kernel, and a worker died
just now, perhaps for want of it.  So a standby gets its attachments while there is time.
Where the supervisor has died the worker goes on by itself: prepared, it attaches once the lock is
free; serving, it notes itself in ``state.json``.
Imported by the supervisor: neither trio nor a codec here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
from typing import Any, NamedTuple

from fuseswap.daemon import environment, strays
from fuseswap.daemon.attachment import Attached, Attachment
from fuseswap.daemon.channel import ATTACH, ATTACH_STRICTLY
from fuseswap.daemon.device_files import Settings, protection_from, settings_from
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError, in_words
from fuseswap.linux import syscalls
from fuseswap.linux.protect import Protection

STACKS_SIGNAL = signal.SIGQUIT  # a worker writes the stacks of its threads into the log
_MAX_BYTES = 8192
PREPARE_TIMEOUT_S = 60.0  # 0.2 s on an idle machine, 30 s in a guest without memory
TAKE_OVER_TIMEOUT_S = 180.0  # another serves meanwhile
PAUSE_TIMEOUT_S = 10.0
ATTACH_TIMEOUT_S = 20.0
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock of fcntl(2), 64 bits
_WORDS_PER_S = 50_000  # of the slot table, on a machine a hundred times too slow


class WorkerArguments(NamedTuple):
    """What a worker is started with: its one argument, as JSON (``strays.py`` reads it too)."""

    name: str
    directory: str
    fds: dict[str, int]  # descriptors that it inherits, ``channel`` and ``go`` among them
    config: dict[str, Any] | None  # of `Settings`; None: it reads ``config.json``
    fresh: bool  # it makes the state
    attachments: list[dict[str, Any]] | None = None  # of `Attachment`, their descriptors in `fds`
    filtered: bool = True  # its system calls, where the settings say so too

    def to_json(self) -> str:
        """What `parse` reads."""
        return json.dumps(self._asdict())

    @classmethod
    def parse(cls, text: str) -> WorkerArguments:
        """Those that a supervisor, maybe of an older version, gave."""
        said = json.loads(text)
        return cls(**{name: said[name] for name in cls._fields if name in said})

    def settings(self, runtime: Runtime) -> Settings:
        """What the device is.  Raises `HostError`."""
        if self.config is None:
            return runtime.config()
        return settings_from(self.config, "the configuration")


class WorkerProcess:
    """One worker from spawn to reaping."""

    hears = True

    def __init__(
        self,
        runtime: Runtime,
        settings: Settings,
        files: dict[str, int],
        attached: Attached,
        *,
        fresh: bool = False,
        rereads: bool = False,
        filtered: bool = True,
    ) -> None:
        """Spawn it over the descriptors ``files``; `fresh`: it makes the state.

        ``attached`` are those that it has from the start, and by and by (`bring_in_line`).
        ``rereads``: it reads ``config.json``.  ``filtered``: see `WorkerArguments`.

        May wait for memory, without the interpreter lock.  Raises `HostError`.
        """
        page_count = settings.geometry.page_count
        self._attach_timeout_s = ATTACH_TIMEOUT_S + page_count / _WORDS_PER_S
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._go = os.eventfd(0, os.EFD_CLOEXEC)
        self._attached = attached
        self._has = attached.now
        self._aside: list[dict[str, Any]] = []  # answers that came between words: one at most
        attachments = Attached(self._has).files()
        fds = {**files, **attachments, "channel": theirs.fileno(), "go": self._go}
        said = WorkerArguments(
            runtime.name,
            str(runtime.directory),
            fds,
            None if rereads else settings.to_json(),
            fresh,
            [one.to_json() for one in self._has],
            filtered,
        )
        variables = environment.of_worker(testing=settings.testing)
        if not fresh:
            variables.pop("FUSESWAP_CRASH_POINT", None)  # see crash_points.py: once is enough
        flags = environment.flags(testing=settings.testing)
        command = [sys.executable, *flags, "-m", "fuseswap.daemon.worker", said.to_json()]
        with theirs:
            try:
                # Not our own description of the log: its position has a lock, which our scribe
                # holds while it waits for memory, and an interpreter takes it when it starts.
                output = runtime.open_log()
                try:
                    to_keep = [*fds.values()]
                    self.pid = syscalls.spawn(sys.executable, command, variables, to_keep, output)
                finally:
                    os.close(output)
                self.pidfd = self._descriptor()
            except OSError as exc:
                self._close()
                raise HostError(f"cannot start a worker: {in_words(exc)}") from exc

    def _descriptor(self) -> int:
        """Of the process that was started, which does not outlive an error."""
        try:
            return os.pidfd_open(self.pid)
        except OSError:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise

    def wait_prepared(self, timeout_s: float = PREPARE_TIMEOUT_S) -> None:
        """Until it could attach.  Raises `HostError`."""
        self._hear("prepared", timeout_s)

    def attach(self, *, strictly: bool = False) -> Protection:
        """Have it serve; returns what holds for it.  Raises `HostError`.

        ``strictly``: rather not than without a parameter; another worker can go on.
        """
        self.bring_in_line()
        os.eventfd_write(self._go, ATTACH_STRICTLY if strictly else ATTACH)
        return self._hear_ready()

    def pause(self) -> None:
        """Have it stop between two requests.  Raises `HostError`."""
        self._say("pause")
        self._hear("paused", PAUSE_TIMEOUT_S)

    def tell_standby(self, pid: int) -> None:
        """Have it count the memory of its standby, 0 for none; does not wait."""
        with contextlib.suppress(OSError):
            self._channel.send(f"standby {pid}".encode(), socket.MSG_DONTWAIT)

    def go_on(self) -> Protection:
        """Have a paused one serve again.  Raises `HostError`."""
        self.bring_in_line()
        self._say("continue")
        return self._hear_ready()

    def bring_in_line(self) -> None:
        """Hand it what was attached since, and have it drop what was detached; does not wait.

        Raises `HostError`: it has ended, or hears nothing.  Two are the same only where they are
        one: what came in place of one that went may have its name, file and numbers.
        """
        now, has = self._attached.now, self._has
        if now is has:
            return
        for gone in has:
            if all(one is not gone for one in now):
                self.drop(gone)
        for one in now:
            if all(one is not had for had in has):
                self._hand(f"take {json.dumps(one.to_json())}", one.fds)
        self._has = now

    def drop(self, attachment: Attachment) -> None:
        """Have it drop one.  It may refuse, where it serves; then it has it as before."""
        self._hand(f"drop {attachment.name}")

    def has_dropped(self, attachment: Attachment) -> None:
        """It did."""
        self._has = tuple(one for one in self._has if one is not attachment)

    def _hand(self, word: str, fds: tuple[int, ...] = ()) -> None:
        try:
            socket.send_fds(self._channel, [word.encode()], fds, socket.MSG_DONTWAIT)
        except OSError as exc:
            raise HostError(f"worker {self.pid} does not hear: {exc.strerror}") from None

    @property
    def channel_fd(self) -> int:
        """Readable where there may be an `answer`."""
        return self._channel.fileno()

    def answer(self) -> dict[str, Any] | None:
        """What came of an attachment: ``answer``, ``name``, ``error``; empty: nothing yet.

        None: it has ended.
        """
        if self._aside:
            return self._aside.pop()
        try:
            packet = self._channel.recv(_MAX_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return {}
        except OSError:
            return None
        if not packet:
            return None
        said: dict[str, Any] = json.loads(packet)
        return said if "answer" in said else {}

    def signal_kill(self) -> None:
        """SIGKILL, which a stopped process obeys too."""
        os.kill(self.pid, signal.SIGKILL)

    def kill(self) -> int:
        """`signal_kill` and `reap`; the exit code is another's where it had ended before."""
        self.signal_kill()
        return self.reap()

    def reap(self) -> int:
        """Its exit code, once every one of its threads has ended."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self._close()
        return os.waitstatus_to_exitcode(status)

    def _close(self) -> None:
        os.close(self._go)
        self._channel.close()

    def _say(self, word: str) -> None:
        try:
            self._channel.send(word.encode())
        except OSError:
            raise HostError("the worker has ended") from None

    def _hear_ready(self) -> Protection:
        return protection_from(self._hear("ready", self._attach_timeout_s), "the worker's answer")

    def _hear(self, word: str, timeout_s: float) -> dict[str, Any]:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        while True:
            if not poll.poll(timeout_s * 1000):
                raise HostError(f"the worker was not {word} within {timeout_s:.0f} s")
            try:
                packet = self._channel.recv(_MAX_BYTES)
            except OSError:
                packet = b""
            if not packet:
                raise HostError(f"the worker ended before it was {word}")
            said: dict[str, Any] = json.loads(packet)
            if "answer" not in said:
                break
            self._aside.append(said)
        if "error" in said:
            raise HostError(said["error"])
        if said.pop("word") != word:
            raise HostError(f"the worker said something else than {word}")
        return said


def end_holder(header_fd: int) -> None:
    """Kill the worker that holds the lock of this state, and wait until it is gone.

    A POSIX lock goes with the last thread, so no write to a tier is left behind.
    """
    while holder(header_fd):
        strays.end(lambda: {holder(header_fd)} - {0})


def holder(header_fd: int) -> int:
    """Id of the process that holds the lock; 0: none does."""
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(header_fd, fcntl.F_GETLK, wanted))
    return 0 if kind == fcntl.F_UNLCK else int(pid)
