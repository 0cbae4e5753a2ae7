"""The worker that serves, and its replacement when it ends.

    start     a prepared worker attaches and serves
    replace   the standby goes on, or another is started; after a failure with a pause that
              grows; `MAX_FAILURES` in a row: stop, keep everything, say ``degraded``

From "the worker ended" to "the standby attaches" nothing asks the kernel for memory.  The scribe
writes, and a new standby is the work of its own thread.
"""

from __future__ import annotations

import time

from fuseswap.daemon.adopted_worker import ServingWorker
from fuseswap.daemon.call_filter import CallFilter
from fuseswap.daemon.device_files import Status
from fuseswap.daemon.scribe import Scribe, stamp
from fuseswap.daemon.spawner import Spawner
from fuseswap.daemon.standby import Standby
from fuseswap.daemon.state_file import StateFile
from fuseswap.daemon.watchdog import Watchdog
from fuseswap.errors import HostError
from fuseswap.linux.protect import Protection

MAX_FAILURES = 8
_FIRST_PAUSE_S = 0.05


class Service:
    """Of one device; used by the supervisor's main thread."""

    def __init__(
        self,
        spawner: Spawner,
        standby: Standby,
        watchdog: Watchdog,
        state: StateFile,
        scribe: Scribe,
        call_filter: CallFilter,
        *,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self._spawner = spawner
        self._standby = standby
        self._watchdog = watchdog
        self._state = state
        self._scribe = scribe
        self._filter = call_filter
        self._first_pause_s = first_pause_s
        self._failures = 0
        self.worker: ServingWorker | None = None  # None: none serves, or `degraded`

    def say(self, message: str) -> None:
        """One line into the log."""
        self._scribe.say(f"{stamp()} supervisor: {message}")

    def start(self, worker: ServingWorker, *, prepared: bool = True) -> None:
        """Have ``worker`` serve.  Raises `HostError`; it is ended then."""
        try:
            if not prepared:
                worker.wait_prepared()
            protection = worker.attach()
        except HostError:
            self._filter.worker_ended(worker.kill())
            raise
        self.now_serves(worker, protection)

    def now_serves(self, worker: ServingWorker, protection: Protection) -> None:
        """Note that ``worker`` has attached."""
        self.worker = worker
        self._watchdog.begin()
        self._state.serving(worker.pid, protection)
        if self._filter.was_left_off and not protection.seccomp:
            self._state.filter_left_off(self._filter.call)
        self._standby.ask()

    def reap(self) -> tuple[int, int]:
        """The worker has ended: its process id and exit code."""
        worker, self.worker = self.worker, None
        assert worker
        code = worker.reap()
        self._filter.worker_ended(code)
        if self._watchdog.did_well():
            self._failures = 0
        return worker.pid, code

    def replace(self, reason: str) -> None:
        """Have another serve; after `MAX_FAILURES` in a row keep all and wait to be asked."""
        self.worker = None
        while self._failures < MAX_FAILURES:
            if self._failures:
                time.sleep(self._first_pause_s * 2**self._failures)
            self._failures += 1
            self._state.count_restart()
            standby = self._standby.take()
            how = "its standby goes on" if standby else "starting another"
            self.say(f"{reason}; {how} (number {self._state.now.restarts})")
            try:
                another = standby or self._spawner.spawn(filtered=self._filter.for_worker)
                self.start(another, prepared=standby is not None)
            except HostError as exc:
                reason = str(exc)
                continue
            return
        self.say(f"{reason}; {MAX_FAILURES} failures in a row: degraded, the data is kept")
        self._state.not_serving(Status.DEGRADED, reason)
        self._standby.ask()

    def try_again(self) -> None:
        """Asked to, where it is degraded."""
        self._failures = 0
        self.replace("asked to try again")

    def begin_again(self, worker: ServingWorker) -> None:
        """Where none serves: a prepared ``worker`` does, asked for.  Raises `HostError`."""
        self.start(worker)
        self._failures = 0
        self._state.count_restart()
        self._state.write_soon()
