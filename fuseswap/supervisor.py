"""The supervisor: holds the ``/dev/fuse`` descriptor and the memory, runs the worker.

Small on purpose: it imports neither trio nor a codec, touches none of the memory it
holds but one page of progress, and looks once a second whether the worker lives.

    start:   protect, make the memory, mount, start a worker, wait until it is ready
    then:    sleep until the worker ends or somebody asks
      worker ended with 0         the file system was unmounted: clean up, exit
      worker ended otherwise      start another on the same descriptors, after a pause
                                  that grows; `MAX_FAILURES` in a row: stop, keep
                                  everything, say ``degraded``
      worker without a heartbeat  kill it, then as above
      asked to restart            hand over to a new worker, or have the old one go on
      SIGTERM, SIGINT             unmount and exit, unless somebody uses the file
      SIGHUP                      leave ``degraded`` and try again

The pyfuse3 transport cannot resume (libfuse keeps its session in the process), so
there the connection is aborted when the worker dies: its users get I/O errors instead
of waiting for ever.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import signal
import struct
import sys
import time
from types import FrameType
from typing import Any, NoReturn

from fuseswap.errors import HostError
from fuseswap.host import backing, control, memory, mount, notify
from fuseswap.host.protect import protect
from fuseswap.host.runtime import Runtime, write_json
from fuseswap.watchdog import Watchdog
from fuseswap.worker_process import WorkerProcess, end_holder

MAX_FAILURES = 8
PROGRESS_AT = 512  # in the header (see cache/state.py): requests the worker has answered
_PROGRESS = struct.Struct("<Q")
_HEALTHY_AFTER_S = 0.1
_FIRST_PAUSE_S = 0.05
_LOOK_EVERY_S = 1.0


def say(message: str) -> None:
    """One line into the log (our standard error)."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    with contextlib.suppress(OSError):
        os.write(2, f"{stamp} supervisor: {message}\n".encode())


class Supervisor:
    """One device from mount to unmount."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._config = runtime.config()
        self._mountpoint: str = self._config["mountpoint"]
        self._resumes = self._config["transport"] == "devfuse"
        self._worker: WorkerProcess | None = None
        self._ended_well = False
        self._restarts = 0
        self._failures = 0
        self._state: dict[str, Any] = {"supervisor_pid": os.getpid(), "restarts": 0}
        self._wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._noted)

    def start(self) -> None:
        """Everything up to a worker that answers.  Raises `HostError`; leaves nothing mounted."""
        self._state["supervisor_protection"] = protect(populate=False)._asdict()
        kind, self._files = memory.create_files(
            self._config["region_bytes"], self._config.get("memory")
        )
        self._state.update(memory=kind, made_backing=False)
        if self._config["backing"]:
            self._open_backing()
        try:
            self._mount_and_serve()
        except HostError:
            self._close_backing()
            raise
        self._keep_files(kind)

    def _open_backing(self) -> None:
        path, size_bytes = self._config["backing"], self._config["backing_bytes"]
        opened = backing.open_backing(path, size_bytes, self._runtime.name)
        self._files["backing"] = opened.fd
        self._state.update(made_backing=opened.made, former_of_backing=opened.former)

    def _mount_and_serve(self) -> None:
        self._files["fuse"] = mount.mount(self._mountpoint)
        self._open_ways_in()
        try:
            self._start_worker(fresh=True)
        except HostError:
            mount.unmount(self._mountpoint, lazy=True)
            raise

    def adopt(self, files: dict[str, int]) -> None:
        """Go on where a supervisor that died had these ``files``.  Raises `HostError`.

        Its worker, if it lives, is ended first: it is not our child, and we would not know
        when it ends.
        """
        self._state = {**self._runtime.state(), "supervisor_pid": os.getpid()}
        self._state["supervisor_protection"] = protect(populate=False)._asdict()
        self._restarts = self._state.get("restarts", 0)
        self._files = files
        for fd in files.values():
            os.set_inheritable(fd, False)
        if not mount.is_connected(files["fuse"]):
            raise HostError("the connection to the kernel is cut; first: fuseswap down")
        self._open_ways_in()
        end_holder(files["header"])
        say("going on where another supervisor died")
        self._replace_worker("its worker was ended")

    def _keep_files(self, kind: str) -> None:
        """Leave the descriptors with systemd, if it asked.

        Not those of System V memory: what keeps it locked ends with this process.
        """
        if not notify.is_asked_for():
            return
        try:
            if kind == "sysv":
                notify.notify("STATUS=System V memory can't outlive the supervisor")
            else:
                notify.store(self._files)
        except OSError as exc:
            say(f"systemd keeps no descriptors: {exc}")

    def _open_ways_in(self) -> None:
        self._header = mmap.mmap(self._files["header"], mmap.PAGESIZE)
        self._watchdog = Watchdog(
            self._header, self._files["fuse"], self._config.get("watchdog_s", 0.0)
        )
        self._listener = control.listen(self._runtime.control_path)

    def run(self) -> None:
        """Keep a worker running until the file system is unmounted."""
        next_look = time.monotonic() + _LOOK_EVERY_S
        while True:
            poll = select.poll()
            poll.register(self._wake_read, select.POLLIN)
            poll.register(self._listener, select.POLLIN)
            if self._worker:
                poll.register(self._worker.pidfd, select.POLLIN)
            wait_s = max(0.0, next_look - time.monotonic())
            ready = {fd for fd, _ in poll.poll(wait_s * 1000)}
            if self._worker and self._worker.pidfd in ready:
                if not self._worker_ended(self._worker):
                    return
            elif time.monotonic() >= next_look:
                next_look = time.monotonic() + _LOOK_EVERY_S
                if not self._look():
                    return
            if self._wake_read in ready:
                self._answer_signals(os.read(self._wake_read, 64))
            if self._listener.fileno() in ready:
                self._answer_request()

    def _look(self) -> bool:
        """Once a second; False where nothing is left to serve."""
        if not self._worker:  # degraded: nobody tells us of an unmount
            self._ended_well = not mount.is_mounted(self._mountpoint)
            return not self._ended_well
        if self._watchdog.is_overdue():
            if not self._resumes:
                say("the worker is stuck; this transport can't resume, so it is left alone")
            else:
                say(f"worker {self._worker.pid} is stuck: killed")
                self._worker.signal_kill()
        return True

    # -- the worker ------------------------------------------------------------------

    def _spawn(self, *, fresh: bool = False) -> WorkerProcess:
        """A worker that could attach.  Raises `HostError`."""
        page_count = self._config["geometry"]["page_count"]
        worker = WorkerProcess(self._runtime.name, self._files, page_count, fresh=fresh)
        try:
            worker.wait_prepared()
        except HostError:
            worker.kill()
            raise
        return worker

    def _start_worker(self, *, fresh: bool) -> None:
        """Start a worker and wait until it serves.  Raises `HostError`."""
        worker = self._spawn(fresh=fresh)
        try:
            said = worker.attach()
        except HostError:
            worker.kill()
            raise
        self._now_serves(worker, said)

    def _now_serves(self, worker: WorkerProcess, said: dict[str, Any]) -> None:
        self._worker = worker
        self._ready_at = time.monotonic()
        self._watchdog.begin()
        self._write_state("running", worker_pid=worker.pid, **said)

    def _worker_ended(self, worker: WorkerProcess) -> bool:
        """Reap the worker and replace it; False where there is nothing left to serve."""
        code = worker.reap()
        self._worker = None
        if code == 0 or not mount.is_mounted(self._mountpoint):
            self._ended_well = not mount.is_mounted(self._mountpoint)
            return False
        if not self._resumes:
            say(f"worker ended with {code}; this transport can't resume: aborting")
            self._write_state("failed", worker_pid=0, reason=f"worker ended with {code}")
            os.close(self._files["fuse"])
            mount.unmount(self._mountpoint, lazy=True)
            return False
        if self._worker_did_well():
            self._failures = 0
        self._replace_worker(f"worker {worker.pid} ended with {code}")
        return True

    def _worker_did_well(self) -> bool:
        """Whether the worker that ended had served: then its end is no failure of starting."""
        (answered,) = _PROGRESS.unpack_from(self._header, PROGRESS_AT)
        _PROGRESS.pack_into(self._header, PROGRESS_AT, 0)
        return answered > 0 and time.monotonic() - self._ready_at > _HEALTHY_AFTER_S

    def _replace_worker(self, reason: str) -> None:
        """Start another; after `MAX_FAILURES` in a row keep everything and wait to be asked."""
        while self._failures < MAX_FAILURES:
            if self._failures:
                time.sleep(_FIRST_PAUSE_S * 2**self._failures)
            self._failures += 1
            self._restarts += 1
            say(f"{reason}; starting another (number {self._restarts})")
            try:
                self._start_worker(fresh=False)
            except HostError as exc:
                reason = str(exc)
                continue
            return
        say(f"{reason}; {MAX_FAILURES} failures in a row: degraded, the data is kept")
        self._write_state("degraded", worker_pid=0, reason=reason)

    # -- handing over ----------------------------------------------------------------

    def _restart(self) -> str:
        """Hand over to a new worker; returns what was done.

        Raises `HostError` with the old worker serving again, or, where that failed too,
        with whatever `_replace_worker` came to.
        """
        if not self._resumes:
            raise HostError("the pyfuse3 transport can't hand over; use: fuseswap down, then up")
        if not self._worker:
            self._start_worker(fresh=False)
            self._failures = 0
            self._restarts += 1
            return f"worker {self._state['worker_pid']} serves again"
        old = self._worker
        try:
            new = self._spawn()
        except HostError as exc:
            raise HostError(f"worker {old.pid} goes on, the new one can't start: {exc}") from exc
        began = time.monotonic()
        paused = _pause(old)
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
        done = f"worker {old.pid} replaced by {new.pid}, pause {pause_ms:.0f} ms"
        say(done)
        return done

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
        status = self._state["status"]
        raise HostError(f"the new worker can't attach: {reason}; the device is {status}")

    # -- being asked -----------------------------------------------------------------

    def _answer_request(self) -> None:
        asked = control.accept(self._listener)
        if asked is None:
            return
        connection, request = asked
        if request != "restart":
            control.answer(connection, "refused", f"'{request}' is unknown to this supervisor")
            return
        try:
            control.answer(connection, "done", self._restart())
        except HostError as exc:
            say(f"not restarted: {exc}")
            control.answer(connection, "refused", str(exc))

    def _noted(self, number: int, frame: FrameType | None) -> None:
        """The wakeup descriptor has it; the loop acts."""

    def _answer_signals(self, numbers: bytes) -> None:
        if signal.SIGHUP in numbers and not self._worker:
            self._failures = 0
            self._replace_worker("asked to try again")
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            try:
                mount.unmount(self._mountpoint)
            except HostError as exc:
                say(f"not stopping, the file is in use: {exc}")

    def _write_state(self, status: str, **more: Any) -> None:
        self._state.pop("reason", None)
        self._state.update(status=status, restarts=self._restarts, **more)
        with contextlib.suppress(OSError):
            notify.notify(f"STATUS={status}")
        try:
            write_json(self._runtime.state_path, self._state)
        except OSError as exc:
            say(f"cannot write {self._runtime.state_path}: {exc}")

    def _close_backing(self) -> None:
        if "backing" in self._files:
            with contextlib.suppress(OSError):
                made = self._state.get("made_backing", False)
                backing.close_backing(self._files["backing"], self._config["backing"], made=made)

    def clean_up(self) -> None:
        """The last act.  Unmounted: nothing is left; aborted: `fuseswap down` finds the rest."""
        with contextlib.suppress(OSError):
            notify.forget(self._files)  # or systemd would keep the memory
        if self._ended_well:
            self._close_backing()
            self._runtime.remove()
            return
        with contextlib.suppress(HostError):
            mount.unmount(self._mountpoint, lazy=True)
        if self._state["status"] != "failed":
            self._write_state("failed", worker_pid=0, reason="the connection was aborted")


def _pause(old: WorkerProcess) -> bool:
    """Pause ``old``; False where it would not and so was killed, as after a crash."""
    try:
        old.pause()
    except HostError as exc:
        say(f"worker {old.pid} does not pause: {exc}; killed")
        old.kill()
        return False
    return True


def main() -> int:
    """``python -m fuseswap.supervisor NAME STATUS_FD FILES``; writes ``ready`` or the error there.

    ``FILES``: descriptors to adopt by name, as JSON; ``{}`` to start afresh.
    """
    name, status_fd, files = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    os.set_inheritable(status_fd, False)
    runtime = Runtime(name)
    supervisor = Supervisor(runtime)
    try:
        if files:
            supervisor.adopt(files)
        else:
            supervisor.start()
    except (HostError, OSError) as exc:
        say(f"cannot start: {exc}")
        os.write(status_fd, f"{exc}\n".encode())
        return 1
    os.write(status_fd, b"ready\n")
    os.close(status_fd)
    supervisor.run()
    supervisor.clean_up()
    return 0


if __name__ == "__main__":
    sys.exit(main())
