"""The tier processes of a device: each remote tier has one, which may end at any time.

A thread of the supervisor sees to them, since to start a process may wait for memory:

    an attachment with a remote leaf -> spawn -> it ends, or its pulse stands still -> kill, pause,
                                                 spawn again
    it is gone, or the device goes down -> told to end, and to delete what it holds -> reaped

What they hold between them, socket and memory, outlives them (``tiers/remote_wire.py``).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from fuseswap.daemon import environment, strays
from fuseswap.daemon.attachment import Attached, Attachment
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.thread_ends import AGAIN_S, note_failure
from fuseswap.linux import syscalls
from fuseswap.linux.watermarks import Watermarks
from fuseswap.tiers.remote_wire import PULSE_LOST_S, end_packet, read_pulse

_LOOK_EVERY_S = 1.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_LIVED_S = 20.0  # what lived so long did not fail when it started
_SHORT_S = 60.0  # without a pulse, while memory is short
_STARTS_S = 60.0  # without a pulse: imports, on a machine that is busy
_END_S = 10.0  # to delete what it holds
_LOCKED_STACK_BYTES = 256 * 1024
_MODULE = "fuseswap.tiers.tier_process"
_REMOTE_FDS = 3


class _Process:
    """One leaf of an attachment, and its process where there is one."""

    def __init__(self, fds: tuple[int, ...], said: dict[str, Any]) -> None:
        """``fds``: worker's end, process's end, memory.  ``said``: what the process is told."""
        self.fds = fds
        self.said = said
        self.pid = 0
        self.pidfd = -1
        self.started_at = 0.0
        self.not_before = 0.0
        self.pause_s = _FIRST_PAUSE_S

    def hold(self) -> bool:
        """Have descriptors of its own: the supervisor closes those of an attachment that goes.

        False where it has just gone.
        """
        held: list[int] = []
        try:
            held.extend(map(os.dup, self.fds))
        except OSError:
            for fd in held:
                os.close(fd)
            return False
        self.fds = tuple(held)
        return True


class TierProcesses:
    """Of one device.  `start`, then `look_again` whenever attachments came or went."""

    def __init__(
        self,
        runtime: Runtime,
        attached: Attached,
        say: Callable[[str], None],
        *,
        testing: bool = False,
    ) -> None:
        """``testing``: see ``environment.py``."""
        self._testing = testing
        self._watermarks: Watermarks | None = None  # only where there is a process
        self._runtime = runtime
        self._attached = attached
        self._say = say
        self._processes: dict[str, _Process] = {}  # by the id that a leaf has at its server
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = False
        self._forgets = False
        self._thread = threading.Thread(target=self._run, name="tiers", daemon=True)

    def start(self) -> None:
        """From now on each remote tier has a process, if there is any."""
        self.look_again()

    def look_again(self) -> None:
        """Attachments have changed."""
        os.eventfd_write(self._wake, 1)
        if self._thread.is_alive() or self._stopping:
            return
        if any(True for one in self._attached.now for _ in _leaves(one)):
            self._thread.start()

    def stop(self, *, forget: bool) -> None:
        """End them all; with ``forget`` they delete what the device holds at their servers."""
        self._stopping, self._forgets = True, forget
        os.eventfd_write(self._wake, 1)
        if self._thread.is_alive():
            self._thread.join(2 * _END_S)

    # -- the thread ------------------------------------------------------------------

    def _run(self) -> None:
        syscalls.lock_stack(_LOCKED_STACK_BYTES)
        while not self._stopping:
            try:
                self._step()
            except Exception as exc:
                note_failure(exc, "and begins again")
                with contextlib.suppress(BlockingIOError):  # else there would be no pause
                    os.eventfd_read(self._wake)
                select.select([self._wake], [], [], AGAIN_S)
        for process in self._processes.values():
            self._end(process, forget=self._forgets)

    def _step(self) -> None:
        wanted = {
            leaf.said["identity"]["id"]: leaf for one in self._attached.now for leaf in _leaves(one)
        }
        for name in [name for name in self._processes if name not in wanted]:
            self._end(self._processes.pop(name), forget=True)
        for name, leaf in wanted.items():
            if name not in self._processes and leaf.hold():
                self._processes[name] = leaf
            if process := self._processes.get(name):
                self._look(process)
        self._wait()

    def _wait(self) -> None:
        """For a change, the end of a process, or a while."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for process in self._processes.values():
            if process.pid:
                poll.register(process.pidfd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(_LOOK_EVERY_S * 1000)]
        if self._wake in ready:
            os.eventfd_read(self._wake)

    def _look(self, process: _Process) -> None:
        """Reap, kill or start it, as is needed."""
        now = time.monotonic()
        if process.pid and self._has_ended(process):
            lived_s = now - process.started_at
            process.pause_s = (
                _FIRST_PAUSE_S if lived_s > _LIVED_S else min(2 * process.pause_s, _LONGEST_PAUSE_S)
            )
            process.not_before = now + process.pause_s
        elif process.pid and self._stands_still(process, now):
            self._say(f"{process.said['name']}: tier process {process.pid} stands still: killed")
            os.kill(process.pid, signal.SIGKILL)
        if not process.pid and now >= process.not_before:
            self._spawn(process)

    def _has_ended(self, process: _Process) -> bool:
        """Reap it, if it has; says why."""
        pid, status = os.waitpid(process.pid, os.WNOHANG)
        if not pid:
            return False
        code = os.waitstatus_to_exitcode(status)
        self._say(f"{process.said['name']}: tier process {pid} ended with {code}")
        os.close(process.pidfd)
        process.pid, process.pidfd = 0, -1
        return True

    def _stands_still(self, process: _Process, now: float) -> bool:
        """Where memory is short it has more time: another one would have to be imported first."""
        _, age_s = read_pulse(process.fds[2])
        if age_s > now - process.started_at:
            return now - process.started_at > _STARTS_S
        if age_s <= PULSE_LOST_S:
            return False
        self._watermarks = self._watermarks or Watermarks()
        return age_s > _SHORT_S or not self._watermarks.are_near()

    def _spawn(self, process: _Process) -> None:
        """Raises nothing: it is tried again."""
        name = process.said["name"]
        strays.end(partial(strays.tier_processes_of, process.said["identity"]["id"]))
        said = {**process.said, "socket": process.fds[1], "memory": process.fds[2]}
        flags = environment.flags(testing=self._testing)
        command = [sys.executable, *flags, "-m", _MODULE, json.dumps(said)]
        variables = environment.of_tier_process(testing=self._testing)
        process.not_before = time.monotonic() + process.pause_s
        try:
            output = self._runtime.open_log()
            try:
                fds = [process.fds[1], process.fds[2]]
                process.pid = syscalls.spawn(sys.executable, command, variables, fds, output)
            finally:
                os.close(output)
            try:
                process.pidfd = os.pidfd_open(process.pid)
            except OSError:
                os.kill(process.pid, signal.SIGKILL)
                os.waitpid(process.pid, 0)
                process.pid = 0
                raise
            process.started_at = time.monotonic()
        except OSError as exc:
            self._say(f"{name}: no tier process can be started: {exc}")

    def _end(self, process: _Process, *, forget: bool) -> None:
        """Tell it to end, and kill it where it does not; its descriptors are not needed then."""
        if process.pid:
            self._end_process(process, forget=forget)
            os.close(process.pidfd)
            process.pid, process.pidfd = 0, -1
        for fd in process.fds:
            os.close(fd)

    def _end_process(self, process: _Process, *, forget: bool) -> None:
        with contextlib.suppress(OSError):
            ours = socket.socket(fileno=os.dup(process.fds[0]))
            with ours:
                ours.send(end_packet(forget=forget), socket.MSG_DONTWAIT)
        poll = select.poll()
        poll.register(process.pidfd, select.POLLIN)
        if not poll.poll(_END_S * 1000):
            self._say(f"{process.said['name']}: not all was deleted at its server")
            os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)


def _leaves(one: Attachment) -> Iterator[_Process]:
    """Those of its leaves that a process is for."""
    for leaf in one.description.get("leaves", []):
        if len(leaf["fds"]) == _REMOTE_FDS:
            said = {
                "kind": leaf["kind"],
                "name": one.tier_name,
                "rest": leaf["rest"],
                "identity": leaf["identity"],
                "extent_count": leaf["extent_count"],
            }
            if "write_timeout_s" in leaf:
                said["write_timeout_s"] = leaf["write_timeout_s"]
            yield _Process(tuple(one.fds[at] for at in leaf["fds"]), said)
