"""The supervisor: holds the ``/dev/fuse`` descriptor and the memory, runs the worker.

Small on purpose: it imports neither trio nor a codec, touches none of the memory it holds
but one page of progress, and looks each second whether the worker lives.

    start:   protect, make the memory, mount, start a worker, wait until it is ready
    then:    sleep until the worker ends or somebody asks
      worker ended with 0         the file system was unmounted: clean up, exit
      worker ended otherwise      the standby goes on, or another is started; after a failure
                                  with a pause that grows; `MAX_FAILURES` in a row: stop,
                                  keep everything, say ``degraded``
      worker without a heartbeat  kill it, then as above
      asked to restart            hand over to a new worker, or have the old one go on
      SIGTERM, SIGINT             unmount and exit, unless somebody uses the file
      SIGHUP                      leave ``degraded`` and try again

From "the worker ended" to "the standby attaches" nothing asks the kernel for memory: what is
to be written is left to the scribe, and a new standby to its own thread.

The pyfuse3 transport can't resume (libfuse keeps its session in the process): when its worker
dies the connection is aborted, and its users get errors instead of waiting for ever.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import signal
import sys
import time
from types import FrameType
from typing import Any, NoReturn

from fuseswap import lean, strays
from fuseswap.errors import HostError
from fuseswap.holdings import Holdings
from fuseswap.host import mount
from fuseswap.host.protect import protect
from fuseswap.host.runtime import Runtime
from fuseswap.petitions import KEEP_STANDBY, RESTART, Petitions
from fuseswap.scribe import Scribe, stamp
from fuseswap.standby import Standby, has_room
from fuseswap.state_file import StateFile
from fuseswap.watchdog import Watchdog
from fuseswap.worker_process import WorkerProcess, end_holder, holder

MAX_FAILURES = 8
_FIRST_PAUSE_S = 0.05
_LOOK_EVERY_S = 1.0


class Supervisor:
    """One device from mount to unmount."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._config = runtime.config()
        self._mountpoint: str = self._config["mountpoint"]
        self._resumes = self._config["transport"] == "devfuse"
        self._holdings = Holdings(runtime.name, self._config)
        self._worker: WorkerProcess | None = None
        self._ended_well = False
        self._restarts = 0
        self._failures = 0
        self._scribe = Scribe(2, may_swap=True)
        self._state = StateFile(runtime, self._scribe)
        keep = self._resumes and self._config.get("standby", True)
        self._standby = Standby(self._spawn, self._tell_standby, has_room, keep=keep)
        self._state.standby_pid = lambda: self._standby.pid
        self._wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _noted)

    def say(self, message: str) -> None:
        """One line into the log (our standard error)."""
        self._scribe.say(f"{stamp()} supervisor: {message}")

    def start(self) -> None:
        """Everything up to a worker that answers.  Raises `HostError`; leaves nothing mounted."""
        self._protect()
        self._holdings.make()
        self._state.values.update(self._holdings.noted)
        self._open_ways_in()
        try:
            self._start_worker(self._spawn(fresh=True), prepared=False)
        except HostError:
            self._holdings.undo()
            raise
        self._holdings.keep(self.say)

    def _protect(self) -> None:
        """All that is mapped is made resident: what a death needs must not come from a disk."""
        lean.trim()
        self._state.values["supervisor_protection"] = protect(populate=True)._asdict()
        self._scribe.start()

    def adopt(self, files: dict[str, int]) -> None:
        """Go on where a supervisor that died had these ``files``.  Raises `HostError`.

        Its workers, if they live, are ended: they are not our children, and we would not
        know when they end.  Not before one of ours could take over.
        """
        self._state.values = {**self._runtime.state(), "supervisor_pid": os.getpid()}
        self._protect()
        self._restarts = self._state.values.get("restarts", 0)
        self._holdings.adopt(files, self._state.values)
        self._open_ways_in()
        worker = self._spawn()
        try:
            worker.wait_prepared()
        except HostError:
            worker.kill()
            raise
        self._end_others(worker.pid)
        self.say("going on where another supervisor died")
        self._restarts += 1
        try:
            self._start_worker(worker)
        except HostError as exc:
            self._replace_worker(str(exc))

    def _end_others(self, ours: int) -> None:
        """Workers of the supervisor that died; last the one that serves, and so pauses least."""
        found = strays.workers_of(self._runtime.name, str(self._runtime.directory))
        header = self._holdings.files["header"]
        strays.end(set(found) - {ours, holder(header)})
        end_holder(header)

    def _open_ways_in(self) -> None:
        files = self._holdings.files
        self._header = mmap.mmap(files["header"], mmap.PAGESIZE)
        self._watchdog = Watchdog(self._header, files["fuse"], self._config.get("watchdog_s", 0.0))
        self._petitions = Petitions(self._runtime.control_path, self._scribe, resumes=self._resumes)

    def answer_up(self, status_fd: int) -> None:
        """Tell `up` that we are ready, once ``state.json`` says so too."""

        def answer() -> None:
            os.write(status_fd, b"ready\n")
            os.close(status_fd)

        self._scribe.do(answer)

    def run(self) -> None:
        """Keep a worker running until the file system is unmounted."""
        self._standby.start()
        next_look = time.monotonic() + _LOOK_EVERY_S
        while True:
            ready = self._wait(max(0.0, next_look - time.monotonic()))
            if self._worker and self._worker.pidfd in ready:
                if not self._worker_ended(self._worker):
                    return
            elif time.monotonic() >= next_look:
                next_look = time.monotonic() + _LOOK_EVERY_S
                if not self._look():
                    return
            if self._wake_read in ready:
                self._answer_signals(os.read(self._wake_read, 64))
            if self._standby.news in ready:
                self._renewed()
            if self._petitions.fd in ready:
                self._hear(self._petitions.take())

    def _hear(self, request: str) -> None:
        if request == RESTART:
            self._standby.renew()
        elif request:
            self._standby.keep(request == KEEP_STANDBY)
            self._tell_standby()
            self._petitions.answer("done", request)

    def _wait(self, wait_s: float) -> set[int]:
        """Descriptors that have something to say."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        poll.register(self._standby.news, select.POLLIN)
        if self._petitions.fd is not None:
            poll.register(self._petitions.fd, select.POLLIN)
        if self._worker:
            poll.register(self._worker.pidfd, select.POLLIN)
        return {fd for fd, _ in poll.poll(wait_s * 1000)}

    def _look(self) -> bool:
        """Once a second; False where nothing is left to serve."""
        if not self._worker:  # degraded: nobody tells us of an unmount
            self._ended_well = not mount.is_mounted(self._mountpoint)
            return not self._ended_well
        if self._watchdog.is_overdue():
            if not self._resumes:
                self.say("the worker is stuck; this transport can't resume, so it is left alone")
            else:
                self.say(f"worker {self._worker.pid} is stuck: killed")
                self._worker.signal_kill()
        return True

    # -- the worker ------------------------------------------------------------------

    def _spawn(self, *, fresh: bool = False) -> WorkerProcess:
        """A worker that gets ready; called from the standby's thread as well.

        One that was asked for reads ``config.json``; in place of one that died it may not, since
        that may be on the swap which nobody serves now.
        """
        files, rereads = self._holdings.files, self._standby.is_renewing
        return WorkerProcess(self._runtime, self._config, files, fresh=fresh, rereads=rereads)

    def _start_worker(self, worker: WorkerProcess, *, prepared: bool = True) -> None:
        """Have ``worker`` serve.  Raises `HostError`; it is ended then."""
        try:
            if not prepared:
                worker.wait_prepared()
            said = worker.attach()
        except HostError:
            worker.kill()
            raise
        self._now_serves(worker, said)

    def _now_serves(self, worker: WorkerProcess, said: dict[str, Any]) -> None:
        self._worker = worker
        self._watchdog.begin()
        self._note("running", worker_pid=worker.pid, **said)
        self._standby.ask()

    def _tell_standby(self) -> None:
        """There is another standby, or none; mostly from its thread."""
        self._state.write_soon()
        if worker := self._worker:
            worker.tell_standby(self._standby.pid or 0)

    def _note(self, status: str, **more: Any) -> None:
        self._state.note(status, restarts=self._restarts, **more)

    def _worker_ended(self, worker: WorkerProcess) -> bool:
        """Reap the worker and replace it; False where there is nothing left to serve."""
        code = worker.reap()
        self._worker = None
        if code == 0 or not self._holdings.is_connected():
            self._ended_well = not mount.is_mounted(self._mountpoint)
            return False
        if not self._resumes:
            self.say(f"worker ended with {code}; this transport can't resume: aborting")
            self._note("failed", worker_pid=None, reason=f"worker ended with {code}")
            self._holdings.abort()
            return False
        if self._watchdog.did_well():
            self._failures = 0
        self._replace_worker(f"worker {worker.pid} ended with {code}")
        return True

    def _replace_worker(self, reason: str) -> None:
        """Have another serve; after `MAX_FAILURES` in a row keep all and wait to be asked."""
        while self._failures < MAX_FAILURES:
            if self._failures:
                time.sleep(_FIRST_PAUSE_S * 2**self._failures)
            self._failures += 1
            self._restarts += 1
            standby = self._standby.take()
            how = "its standby goes on" if standby else "starting another"
            self.say(f"{reason}; {how} (number {self._restarts})")
            try:
                self._start_worker(standby or self._spawn(), prepared=standby is not None)
            except HostError as exc:
                reason = str(exc)
                continue
            return
        self.say(f"{reason}; {MAX_FAILURES} failures in a row: degraded, the data is kept")
        self._note("degraded", worker_pid=None, reason=reason)
        self._standby.ask()

    # -- handing over ----------------------------------------------------------------

    def _hand_over(self) -> str:
        """A worker of today's code is prepared, or not: have it serve; returns what was done.

        Raises `HostError` with the old worker serving again, or, where that failed too,
        with whatever `_replace_worker` came to.
        """
        old = self._worker
        try:
            self._standby.end_of_renewal()
        except HostError as exc:
            goes_on = f"worker {old.pid} goes on, the new one can't start: " if old else ""
            raise HostError(f"{goes_on}{exc}") from exc
        new = self._standby.take()
        if new is None or old is None:
            return self._serve_again(new)
        began = time.monotonic()
        paused = self._pause(old)
        try:
            said = new.attach()
        except HostError as exc:
            new.kill()
            self._roll_back(old if paused else None, str(exc))
        pause_ms = (time.monotonic() - began) * 1000
        if paused:
            old.kill()
        self._restarts += 1
        self._now_serves(new, said)
        self._scribe.do(self._reread_config)
        done = f"worker {old.pid} replaced by {new.pid}, pause {pause_ms:.0f} ms"
        self.say(done)
        return done

    def _reread_config(self) -> None:
        """What the worker that was asked for has read is what its replacements get."""
        with contextlib.suppress(HostError):
            self._config = self._runtime.config()

    def _serve_again(self, new: WorkerProcess | None) -> str:
        """Without a worker, or where ``new`` took the place of one that died meanwhile."""
        if new:
            self._start_worker(new)
            self._failures = 0
            self._restarts += 1
        if not self._worker:
            raise HostError("another worker ended, and so did the new one")
        return f"worker {self._worker.pid} serves again"

    def _pause(self, old: WorkerProcess) -> bool:
        """Pause ``old``; False where it would not and so was killed, as after a crash."""
        try:
            old.pause()
        except HostError as exc:
            self.say(f"worker {old.pid} does not pause: {exc}; killed")
            old.kill()
            return False
        return True

    def _roll_back(self, old: WorkerProcess | None, reason: str) -> NoReturn:
        """The new worker could not attach: have the old one go on.  Raises `HostError`."""
        if old:
            try:
                self._now_serves(old, old.go_on())
            except HostError as exc:
                old.kill()
                reason = f"{reason}; nor did the old one: {exc}"
            else:
                raise HostError(f"worker {old.pid} goes on, the new one can't attach: {reason}")
        self._worker = None
        self._replace_worker(f"no worker could attach: {reason}")
        reason = f"{reason}; the device is {self._state.values['status']}"
        raise HostError(f"the new worker can't attach: {reason}")

    def _renewed(self) -> None:
        try:
            self._petitions.answer("done", self._hand_over())
        except HostError as exc:
            self.say(f"not restarted: {exc}")
            self._petitions.answer("refused", str(exc))

    def _answer_signals(self, numbers: bytes) -> None:
        if signal.SIGHUP in numbers and not self._worker:
            self._failures = 0
            self._replace_worker("asked to try again")
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            try:
                mount.unmount(self._mountpoint)
            except HostError as exc:
                self.say(f"not stopping, the file is in use: {exc}")

    def clean_up(self) -> None:
        """The last act.  Unmounted: nothing is left; aborted: `fuseswap down` finds the rest."""
        self._standby.stop()
        self._holdings.forget()
        if self._ended_well:
            self._holdings.close_backing()
            self._scribe.flush()
            self._runtime.remove()
            return
        with contextlib.suppress(HostError):
            mount.unmount(self._mountpoint, lazy=True)
        if self._state.values["status"] != "failed":
            self._note("failed", worker_pid=None, reason="the connection was aborted")
        self._scribe.flush()

    def give_up(self, status_fd: int, reason: str) -> None:
        """Say why there is no device."""
        self.say(f"cannot start: {reason}")
        self._scribe.flush()
        os.write(status_fd, f"{reason}\n".encode(errors="backslashreplace"))


def _noted(number: int, frame: FrameType | None) -> None:
    """The wakeup descriptor has it; the loop acts."""


def main() -> int:
    """``... fuseswap.supervisor NAME STATUS_FD FILES``; writes ``ready`` or the error there.

    ``FILES``: descriptors to adopt by name, as JSON; ``{}`` to start afresh.
    """
    name, status_fd, files = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    for fd in (status_fd, *files.values()):
        os.set_inheritable(fd, False)
    supervisor = Supervisor(Runtime(name))
    try:
        if files:
            supervisor.adopt(files)
        else:
            supervisor.start()
    except (HostError, OSError) as exc:
        supervisor.give_up(status_fd, str(exc))
        return 1
    supervisor.answer_up(status_fd)
    supervisor.run()
    supervisor.clean_up()
    return 0


if __name__ == "__main__":
    sys.exit(main())
