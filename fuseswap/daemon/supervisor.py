"""The supervisor: holds the ``/dev/fuse`` descriptor and the memory, runs the worker.

Small on purpose: it imports neither trio nor a codec.  Of the memory it holds it touches one page,
that of progress.  It looks each second whether the worker lives.

    start:   protect, make the memory, mount, start a worker, wait until it is ready
    then:    sleep until the worker ends or there is a request
      worker ended with 0         the file system was unmounted: clean up, exit
      worker ended otherwise      another serves (``service.py``)
      worker without a heartbeat  kill it, then as above
      asked to restart            hand over to a new worker (``handover.py``)
      SIGTERM, SIGINT             unmount and exit, unless the file is in use
      SIGHUP                      leave ``degraded`` and try again

The pyfuse3 transport can't resume, since libfuse keeps its session in the process.  When its
worker dies the connection is aborted, and its users get errors instead of waiting without end.
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
from functools import partial
from types import FrameType

from fuseswap.daemon import lean, strays
from fuseswap.daemon.adopted_worker import AdoptedWorker, who_serves
from fuseswap.daemon.attaching import Attaching
from fuseswap.daemon.attachment import MAY_FORGET
from fuseswap.daemon.call_filter import CallFilter
from fuseswap.daemon.device_files import Settings, Status
from fuseswap.daemon.handover import Handover
from fuseswap.daemon.holdings import Holdings
from fuseswap.daemon.petitions import ATTACH, DETACH, KEEP_STANDBY, RESTART, Petitions
from fuseswap.daemon.pool_table import PoolTable
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.scribe import Scribe, stamp
from fuseswap.daemon.service import Service
from fuseswap.daemon.spawner import Spawner
from fuseswap.daemon.standby import Standby, has_room
from fuseswap.daemon.state_file import StateFile
from fuseswap.daemon.tier_processes import TierProcesses
from fuseswap.daemon.watchdog import Watchdog
from fuseswap.daemon.worker_process import STACKS_SIGNAL, TAKE_OVER_TIMEOUT_S, end_holder, holder
from fuseswap.errors import HostError, in_words
from fuseswap.linux import mount
from fuseswap.linux.heap import Heap
from fuseswap.linux.protect import Protection, protect
from fuseswap.units import MIB

_LOOK_EVERY_S = 1.0
_HEAP_BYTES = 256 << 10  # resident above what is used: the reaction to a death takes a few KiB
_STACKS_S = 0.1  # for a worker that is to be killed to write its stacks
_FORBIDDEN = ": a system call that it may not make (see: fuseswap up --seccomp)"


class Signals:
    """SIGTERM, SIGINT and SIGHUP: they wait in a pipe for the loop that reacts to them."""

    def __init__(self) -> None:
        self.fd, wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_fd, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, _noted)

    def take(self) -> bytes:
        """Numbers of those that came, once `fd` is readable."""
        return os.read(self.fd, 64)


def _noted(number: int, frame: FrameType | None) -> None:
    """The pipe has it."""


class Supervisor:
    """One device from mount to unmount, over what ``holdings`` has made or adopted."""

    def __init__(
        self,
        runtime: Runtime,
        settings: Settings,
        holdings: Holdings,
        protection: Protection,
        scribe: Scribe,
        signals: Signals,
        heap: Heap,
    ) -> None:
        """``protection`` and ``heap`` are those of this process."""
        self._heap = heap
        self._runtime = runtime
        self._settings = settings
        self._holdings = holdings
        self._scribe = scribe
        self._signals = signals
        files = holdings.files
        header = mmap.mmap(files["header"], mmap.PAGESIZE)
        self._watchdog = Watchdog(header, files["fuse"], settings.watchdog_s)
        self._filter = CallFilter(header, off=holdings.noted.seccomp_off is not None)
        self._petitions = Petitions(runtime.control_path, scribe, resumes=settings.resumes)
        self._spawner = Spawner(runtime, settings, files, holdings.attached)
        self._standby = Standby(
            lambda rereads: self._spawner.spawn(rereads=rereads, filtered=self._filter.for_standby),
            self._tell_standby,
            has_room,
            keep=settings.resumes and settings.standby,
        )
        noted = holdings.noted._replace(supervisor_protection=protection)
        self._state = StateFile(runtime, scribe, noted, lambda: self._standby.pid)
        self._service = Service(
            self._spawner, self._standby, self._watchdog, self._state, scribe, self._filter
        )
        self._handover = Handover(self._service, self._standby, self._spawner, self._state, scribe)
        self._tier_processes = TierProcesses(
            runtime, holdings.attached, self._service.say, testing=settings.testing
        )
        self._attaching = Attaching(
            runtime,
            holdings,
            self._petitions,
            self._service,
            self._standby,
            scribe,
            self._tier_processes.look_again,
        )
        self._ended_well = False

    def start(self) -> None:
        """Have a worker make the state and serve it.  Raises `HostError`."""
        self._tier_processes.start()
        for one in self._holdings.attached.now:
            if one.may_forget:
                self._service.say(f"tier '{one.tier_name}' {MAY_FORGET}")
        self._service.start(self._spawner.spawn(fresh=True), prepared=False)
        self._holdings.keep(self._service.say)

    def take_over(self) -> None:
        """Go on where a supervisor has died.  Raises `HostError`.

        With its workers where one of them serves: another would need memory.  Not with one that
        lacks what others have: pages there are errors to it.
        """
        header = self._holdings.files["header"]
        pid, others = who_serves(header, self._runtime.name, str(self._runtime.directory))
        self._tier_processes.start()
        if pid and self._holdings.attached.are_in(pid):
            self._adopt(pid, others)
        else:
            self._begin_anew()

    def _adopt(self, pid: int, others: set[int]) -> None:
        """Go on with a worker that serves, and one of ``others`` as its standby.

        Not one that has missed what came or went.  To it a page there would be an error, or it
        would write where nothing is read any more.
        """
        header, noted = self._holdings.files["header"], self._state.now
        worker = AdoptedWorker(pid, header, noted.protection)
        self._service.say("going on where another supervisor died")
        for other in others:
            wanted = self._standby.keeps and not self._standby.pid
            if wanted and self._holdings.attached.are_in(other, alone=True):
                with contextlib.suppress(HostError):
                    self._standby.adopt(AdoptedWorker(other, header, noted.protection))
            else:
                strays.end(partial(self._among_workers, other))
        if noted.worker_pid != pid:
            self._state.count_restart()
        self._service.now_serves(worker, worker.attach())

    def _begin_anew(self) -> None:
        """Have a worker of ours serve, once it is prepared.

        Others are ended then: one may serve since a moment ago.
        """
        worker = self._spawner.spawn(filtered=self._filter.for_worker)
        try:
            worker.wait_prepared(TAKE_OVER_TIMEOUT_S)
        except HostError:
            worker.kill()
            raise
        self._end_others(worker.pid)
        self._service.say("going on where another supervisor died")
        self._state.count_restart()
        try:
            self._service.start(worker)
        except HostError as exc:
            self._service.replace(str(exc))

    def _end_others(self, ours: int) -> None:
        """Workers of the supervisor that died; last the one that serves, and so pauses least."""
        header = self._holdings.files["header"]
        strays.end(lambda: self._workers() - {ours, holder(header)})
        end_holder(header)

    def _among_workers(self, pid: int) -> set[int]:
        return {pid} & self._workers()

    def _workers(self) -> set[int]:
        return set(strays.workers_of(self._runtime.name, str(self._runtime.directory)))

    def answer_up(self, status_fd: int) -> None:
        """Tell `up` that we are ready, once ``state.json`` says so too."""
        self._scribe.do(partial(_answer, status_fd, "ready"))

    # -- the loop --------------------------------------------------------------------

    def run(self) -> None:
        """Keep a worker running until the file system is unmounted."""
        self._standby.start()
        next_look = time.monotonic() + _LOOK_EVERY_S
        while True:
            ready = self._wait(max(0.0, next_look - time.monotonic()))
            worker = self._service.worker
            if worker and worker.pidfd in ready:
                if not self._worker_ended():
                    return
            elif time.monotonic() >= next_look:
                next_look = time.monotonic() + _LOOK_EVERY_S
                if not self._look():
                    return
                self._attaching.look()
            self._attaching.react(ready)
            if self._signals.fd in ready:
                self._answer_signals(self._signals.take())
            if self._standby.news in ready:
                self._renewed()
            if self._petitions.fd in ready:
                self._hear(self._petitions.take())

    def _wait(self, wait_s: float) -> set[int]:
        """Descriptors that have something to say."""
        poll = select.poll()
        poll.register(self._signals.fd, select.POLLIN)
        poll.register(self._standby.news, select.POLLIN)
        for fd in self._attaching.fds():
            poll.register(fd, select.POLLIN)
        if self._petitions.fd is not None:
            poll.register(self._petitions.fd, select.POLLIN)
        if self._service.worker:
            poll.register(self._service.worker.pidfd, select.POLLIN)
        return {fd for fd, _ in poll.poll(wait_s * 1000)}

    def _look(self) -> bool:
        """Once a second; False where nothing is left to serve."""
        worker = self._service.worker
        if not worker:  # degraded: no worker tells us of an unmount
            self._ended_well = not mount.is_mounted(self._settings.mountpoint)
            return not self._ended_well
        if self._watchdog.is_overdue():
            if not self._settings.resumes:
                text = "the worker is stuck; this transport can't resume, so it is left alone"
                self._service.say(text)
            else:
                self._service.say(f"worker {worker.pid} is stuck: killed")
                with contextlib.suppress(OSError):
                    os.kill(worker.pid, STACKS_SIGNAL)
                    time.sleep(_STACKS_S)
                worker.signal_kill()
        return True

    def _worker_ended(self) -> bool:
        """Reap the worker and replace it; False where there is nothing left to serve."""
        pid, code = self._service.reap()
        if code == 0 or not self._holdings.is_connected():
            self._ended_well = not mount.is_mounted(self._settings.mountpoint)
            return False
        if not self._settings.resumes:
            self._service.say(f"worker ended with {code}; this transport can't resume: aborting")
            self._state.not_serving(Status.FAILED, f"worker ended with {code}")
            self._holdings.abort()
            return False
        self._service.replace(
            f"worker {pid} ended with {code}{_FORBIDDEN * (code == -signal.SIGSYS)}"
        )
        return True

    def _tell_standby(self) -> None:
        """There is another standby, or none; mostly from its thread."""
        self._heap.top_up()
        self._state.write_soon()
        if worker := self._service.worker:
            worker.tell_standby(self._standby.pid or 0)

    def _hear(self, request: str) -> None:
        if request == RESTART:
            self._filter.try_again()
            self._standby.renew()
        elif request in (ATTACH, DETACH):
            self._attaching.hear(request)
        elif request:
            self._standby.keep(request == KEEP_STANDBY)
            self._tell_standby()
            self._petitions.answer("done", request)

    def _renewed(self) -> None:
        try:
            self._petitions.answer("done", self._handover.hand_over())
        except HostError as exc:
            self._service.say(f"not restarted: {exc}")
            self._petitions.answer("refused", str(exc))

    def _answer_signals(self, numbers: bytes) -> None:
        if signal.SIGHUP in numbers and not self._service.worker:
            self._service.try_again()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            try:
                mount.unmount(self._settings.mountpoint)
            except HostError as exc:
                self._service.say(f"not stopping, the file is in use: {exc}")

    def clean_up(self) -> None:
        """The last act.  Unmounted: nothing is left; aborted: `fuseswap down` finds the rest."""
        self._standby.stop()
        self._tier_processes.stop(forget=self._ended_well)
        self._holdings.forget()
        if self._ended_well:
            self._holdings.close_files()
            self._scribe.flush()
            self._runtime.remove()
            return
        with contextlib.suppress(HostError):
            mount.unmount(self._settings.mountpoint, lazy=True)
        if self._state.now.status != Status.FAILED:
            self._state.not_serving(Status.FAILED, "the connection was aborted")
        self._scribe.flush()


def _answer(status_fd: int, line: str) -> None:
    os.write(status_fd, f"{line}\n".encode(errors="backslashreplace"))
    os.close(status_fd)


def _begin(runtime: Runtime, files: dict[str, int], scribe: Scribe) -> Supervisor:
    """A supervisor with a worker that answers.  Raises `HostError`; leaves nothing mounted.

    With ``files``, of a supervisor that died, it leaves them as they are.
    """
    settings, noted = runtime.config(), runtime.state()
    signals = Signals()
    lean.trim()
    protection = protect(populate=True)  # what a death needs must not come from a disk
    heap = Heap(0, MIB)
    heap.fill(_HEAP_BYTES, None)
    scribe.start()
    if files:
        holdings = Holdings.adopt(settings, files, noted)
        scribe.do(partial(runtime.note_attachments, holdings.attached.now))
        supervisor = Supervisor(runtime, settings, holdings, protection, scribe, signals, heap)
        supervisor.take_over()
        return supervisor
    holdings = Holdings.make(runtime.name, settings)
    try:
        supervisor = Supervisor(runtime, settings, holdings, protection, scribe, signals, heap)
        supervisor.start()
    except (HostError, OSError):
        holdings.undo()
        raise
    return supervisor


def main() -> int:
    """``... fuseswap.daemon.supervisor NAME STATUS_FD FILES DIRECTORY``.

    Writes ``ready`` or the error to STATUS_FD.  FILES: descriptors to adopt by name, as JSON;
    ``{}`` to start afresh.  Attachments that there are from the start have their numbers from
    ``config.json``.  DIRECTORY is for ``strays.py``.
    """
    os.umask(0o077)
    name, status_fd, files = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    for fd in (status_fd, *files.values()):
        os.set_inheritable(fd, False)
    scribe = Scribe(2, may_swap=True)
    table = PoolTable.of_stripe(name)  # mapped, and so in memory, as long as this process lives
    try:
        supervisor = _begin(Runtime(name), files, scribe)
    except (HostError, OSError) as exc:
        scribe.say(f"{stamp()} supervisor: cannot start: {in_words(exc)}")
        scribe.flush()
        _answer(status_fd, in_words(exc))
        return 1
    supervisor.answer_up(status_fd)
    supervisor.run()
    supervisor.clean_up()
    del table
    return 0


if __name__ == "__main__":
    sys.exit(main())
