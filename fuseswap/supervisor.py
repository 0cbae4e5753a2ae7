"""The supervisor: holds the ``/dev/fuse`` descriptor and the memory, runs the worker.

Small on purpose: it imports neither trio nor a codec, touches none of the memory it
holds but one page of progress, and does nothing while all is well.

    start:   protect, make the memory, mount, start a worker, wait until it is ready
    then:    sleep until the worker ends or somebody asks
      worker ended with 0         the file system was unmounted: clean up, exit
      worker ended otherwise      start another on the same descriptors, after a pause
                                  that grows; `MAX_FAILURES` in a row: stop, keep
                                  everything, say ``degraded``
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
from typing import Any

from fuseswap.errors import HostError
from fuseswap.host import backing, memory, mount
from fuseswap.host.protect import protect
from fuseswap.host.runtime import Runtime, write_json

MAX_FAILURES = 8
PROGRESS_AT = 512  # in the header (see cache/state.py): requests the worker has answered
_PROGRESS = struct.Struct("<Q")
_HEALTHY_AFTER_S = 0.1
_FIRST_PAUSE_S = 0.05
_LOOK_EVERY_MS = 1000
_READY_TIMEOUT_S = 60.0


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
        self._worker_pid = 0
        self._worker_pidfd = -1
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
        self._state["memory"] = kind
        self._header = mmap.mmap(self._files["header"], mmap.PAGESIZE)
        if self._config["backing"]:
            path = self._config["backing"]
            self._made_backing = not os.path.exists(path)
            self._files["backing"] = backing.open_backing(path, self._config["backing_bytes"])
        self._fuse = mount.mount(self._mountpoint)
        try:
            self._start_worker(fresh=True)
        except HostError:
            mount.unmount(self._mountpoint, lazy=True)
            self._close_backing()
            raise

    def run(self) -> None:
        """Keep a worker running until the file system is unmounted."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        while True:
            if self._worker_pidfd >= 0:
                poll.register(self._worker_pidfd, select.POLLIN)
            alone = self._worker_pidfd < 0  # degraded: nobody tells us of an unmount
            ready = {fd for fd, _ in poll.poll(_LOOK_EVERY_MS if alone else None)}
            if alone and not mount.is_mounted(self._mountpoint):
                self._ended_well = True
                return
            if self._wake_read in ready:
                self._answer_signals(os.read(self._wake_read, 64))
            if self._worker_pidfd in ready:
                poll.unregister(self._worker_pidfd)
                if not self._worker_ended():
                    return

    # -- the worker ------------------------------------------------------------------

    def _start_worker(self, *, fresh: bool) -> None:
        """Start a worker and wait until it serves.  Raises `HostError`."""
        ready_read, ready_write = os.pipe()
        inherited = {**self._files, "fuse": self._fuse, "ready": ready_write}
        for fd in inherited.values():
            os.set_inheritable(fd, True)
        os.set_inheritable(ready_read, False)
        arguments = {"name": self._runtime.name, "fds": inherited, "fresh": fresh}
        # One malloc arena: every mapped byte of the worker is locked.
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "PYTHONMALLOC": "pymalloc"}
        if not fresh:
            environment.pop("FUSESWAP_CRASH_POINT", None)  # see crashpoints.py: once is enough
        command = [sys.executable, "-m", "fuseswap.worker", json.dumps(arguments)]
        try:
            self._worker_pid = os.posix_spawn(sys.executable, command, environment)
        finally:
            os.close(ready_write)
        self._worker_pidfd = os.pidfd_open(self._worker_pid)
        with open(ready_read, "rb", buffering=0) as pipe:
            answer = _read_line(pipe.fileno(), _READY_TIMEOUT_S)
        if not answer:
            os.kill(self._worker_pid, signal.SIGKILL)
            os.waitpid(self._worker_pid, 0)
            self._close_pidfd()
            raise HostError("the worker did not start")
        self._ready_at = time.monotonic()
        self._write_state("running", worker_pid=self._worker_pid, **json.loads(answer))

    def _worker_ended(self) -> bool:
        """Reap the worker and replace it; False where there is nothing left to serve."""
        _, status = os.waitpid(self._worker_pid, 0)
        self._close_pidfd()
        code = os.waitstatus_to_exitcode(status)
        if code == 0 or not mount.is_mounted(self._mountpoint):
            self._ended_well = not mount.is_mounted(self._mountpoint)
            return False
        if not self._resumes:
            say(f"worker ended with {code}; this transport can't resume: aborting")
            self._write_state("failed", worker_pid=0, reason=f"worker ended with {code}")
            os.close(self._fuse)
            mount.unmount(self._mountpoint, lazy=True)
            return False
        if self._worker_did_well():
            self._failures = 0
        self._replace_worker(f"worker {self._worker_pid} ended with {code}")
        return True

    def _worker_did_well(self) -> bool:
        """Whether the worker that ended had served: then its end is no failure of starting."""
        (answered,) = _PROGRESS.unpack_from(self._header, PROGRESS_AT)
        _PROGRESS.pack_into(self._header, PROGRESS_AT, 0)
        return answered > 0 and time.monotonic() - self._ready_at > _HEALTHY_AFTER_S

    def _replace_worker(self, reason: str) -> None:
        """Start another; after `MAX_FAILURES` in a row keep everything and wait for SIGHUP."""
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

    def _close_pidfd(self) -> None:
        os.close(self._worker_pidfd)
        self._worker_pidfd = -1

    # -- signals ---------------------------------------------------------------------

    def _noted(self, number: int, frame: FrameType | None) -> None:
        """The wakeup descriptor has it; the loop acts."""

    def _answer_signals(self, numbers: bytes) -> None:
        if signal.SIGHUP in numbers and self._worker_pidfd < 0:
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
        try:
            write_json(self._runtime.state_path, self._state)
        except OSError as exc:
            say(f"cannot write {self._runtime.state_path}: {exc}")

    def _close_backing(self) -> None:
        if "backing" in self._files:
            with contextlib.suppress(OSError):
                backing.close_backing(self._config["backing"], made=self._made_backing)

    def clean_up(self) -> None:
        """The last act.  Unmounted: nothing is left; aborted: `fuseswap down` finds the rest."""
        if self._ended_well:
            self._close_backing()
            self._runtime.remove()
            return
        with contextlib.suppress(HostError):
            mount.unmount(self._mountpoint, lazy=True)
        if self._state["status"] != "failed":
            self._write_state("failed", worker_pid=0, reason="the connection was aborted")


def _read_line(fd: int, timeout_s: float) -> bytes:
    """One line from ``fd``, or b"" at its end or after ``timeout_s``."""
    line = b""
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while not line.endswith(b"\n"):
        left_ms = (deadline - time.monotonic()) * 1000
        if left_ms <= 0 or not poll.poll(left_ms):
            return b""
        chunk = os.read(fd, 4096)
        if not chunk:
            return b""
        line += chunk
    return line


def main() -> int:
    """``python -m fuseswap.supervisor NAME STATUS_FD``; writes ``ready`` or the error there."""
    name, status_fd = sys.argv[1], int(sys.argv[2])
    os.set_inheritable(status_fd, False)
    runtime = Runtime(name)
    supervisor = Supervisor(runtime)
    try:
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
