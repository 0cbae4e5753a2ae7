"""``state.json``, as the supervisor keeps it: noted at once, written by its scribe.

The runtime directory lies on a tmpfs, whose pages may be swapped out to the device itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from fuseswap.daemon.device_files import DeviceState, Status
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.scribe import Scribe, stamp
from fuseswap.linux import refused_call, sd_notify
from fuseswap.linux.protect import Protection


class StateFile:
    """The state of supervisor and workers; changed by the supervisor's main thread alone."""

    def __init__(
        self,
        runtime: Runtime,
        scribe: Scribe,
        state: DeviceState,
        standby_pid: Callable[[], int | None],
    ) -> None:
        """``state`` is where it begins; ``standby_pid`` is asked at each writing."""
        self._runtime = runtime
        self._scribe = scribe
        self._standby_pid = standby_pid
        self._state = state
        self._call: int | None = None
        self._is_left_off = state.seccomp_off is not None
        self._why_left_off = state.seccomp_off  # changed by the scribe alone

    @property
    def now(self) -> DeviceState:
        """All but the standby's process id."""
        return self._state

    def serving(self, worker_pid: int, protection: Protection) -> None:
        """From now on this worker serves."""
        self._state = self._state._replace(
            status=Status.RUNNING, reason=None, worker_pid=worker_pid, protection=protection
        )
        self._is_left_off = self._is_left_off and not protection.seccomp
        self.write_soon()

    def filter_left_off(self, call: int | None) -> None:
        """It makes any system call, since one was killed for ``call`` (None: not known)."""
        if self._is_left_off and call == self._call:
            return
        self._call, self._is_left_off = call, True
        self._scribe.do(self._explain)

    def not_serving(self, status: Status, reason: str) -> None:
        """From now on no worker does."""
        self._state = self._state._replace(status=status, reason=reason, worker_pid=None)
        self.write_soon()

    def count_restart(self) -> None:
        """One more; written with what comes of it."""
        self._state = self._state._replace(restarts=self._state.restarts + 1)

    def write_soon(self) -> None:
        """Have it written, from any thread."""
        self._scribe.do(self._write)

    def _explain(self) -> None:
        name = refused_call.name_of(self._call)
        self._why_left_off = f"worker was killed for a call that is not allowed: {name}"
        self._scribe.say(
            f"{stamp()} supervisor: workers have no filter of system calls from now on: "
            f"{self._why_left_off}; with it again: fuseswap restart {self._runtime.name}"
        )
        self._write()

    def _write(self) -> None:
        state = self._state._replace(
            standby_pid=self._standby_pid(),
            seccomp_off=self._why_left_off if self._is_left_off else None,
        ).with_starts()
        with contextlib.suppress(OSError):
            sd_notify.notify(f"STATUS={state.status}")
        self._runtime.write_state(state)
