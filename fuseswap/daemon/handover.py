"""A worker of today's code takes over from one that serves, or that one goes on.

    renewed -> pause the old one -> the new one attaches -> end the old one
                    `- would not: killed, as after a crash
                                          `- can't: the old one goes on, or is replaced

The standby's thread has made the new one before (`Standby.renew`).
"""

from __future__ import annotations

import time
from typing import NoReturn

from fuseswap.daemon.adopted_worker import ServingWorker
from fuseswap.daemon.scribe import Scribe
from fuseswap.daemon.service import Service
from fuseswap.daemon.spawner import Spawner
from fuseswap.daemon.standby import Standby
from fuseswap.daemon.state_file import StateFile
from fuseswap.errors import HostError


class Handover:
    """Of one device; used by the supervisor's main thread."""

    def __init__(
        self,
        service: Service,
        standby: Standby,
        spawner: Spawner,
        state: StateFile,
        scribe: Scribe,
    ) -> None:
        self._service = service
        self._standby = standby
        self._spawner = spawner
        self._state = state
        self._scribe = scribe

    def hand_over(self) -> str:
        """The renewal has ended: have the new worker serve; returns what was done.

        Raises `HostError` with the old worker serving again, or, where that failed too,
        with whatever `Service.replace` came to.
        """
        old = self._service.worker
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
            protection = new.attach(strictly=paused)
        except HostError as exc:
            new.kill()
            self._roll_back(old if paused else None, str(exc))
        pause_ms = (time.monotonic() - began) * 1000
        if paused:
            old.kill()
        self._state.count_restart()
        self._service.now_serves(new, protection)
        self._scribe.do(self._spawner.reread)
        done = f"worker {old.pid} replaced by {new.pid}, pause {pause_ms:.0f} ms"
        self._service.say(done)
        return done

    def _serve_again(self, new: ServingWorker | None) -> str:
        """Without a worker, or where ``new`` took the place of one that died meanwhile."""
        if new:
            self._service.begin_again(new)
        if not self._service.worker:
            raise HostError("another worker ended, and so did the new one")
        return f"worker {self._service.worker.pid} serves again"

    def _pause(self, old: ServingWorker) -> bool:
        """Pause ``old``; False where it would not and so was killed, as after a crash."""
        try:
            old.pause()
        except HostError as exc:
            self._service.say(f"worker {old.pid} does not pause: {exc}; killed")
            old.kill()
            return False
        return True

    def _roll_back(self, old: ServingWorker | None, reason: str) -> NoReturn:
        """The new worker could not attach: have the old one go on.  Raises `HostError`."""
        if old:
            try:
                self._service.now_serves(old, old.go_on())
            except HostError as exc:
                old.kill()
                reason = f"{reason}; nor did the old one: {exc}"
            else:
                raise HostError(f"worker {old.pid} goes on, the new one can't attach: {reason}")
        self._service.replace(f"no worker could attach: {reason}")
        reason = f"{reason}; the device is {self._state.now.status}"
        raise HostError(f"the new worker can't attach: {reason}")
