"""What a worker whose supervisor died leaves for `status` and `up`: that it serves.

Its scribe writes the note, and holds the device's lock meanwhile.  A command may have the lock
first, and give the device another supervisor, or take it down.  Then there is nothing to note.
"""

from __future__ import annotations

import contextlib
import os

from fuseswap.daemon.device_files import Status
from fuseswap.daemon.processes import supervisor_of
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.scribe import Scribe
from fuseswap.linux.process import start_ticks
from fuseswap.linux.protect import Protection


class OrphanNote:
    """One note in ``state.json``."""

    def __init__(self, runtime: Runtime, scribe: Scribe) -> None:
        self._runtime = runtime
        self._scribe = scribe
        self._protection: Protection | None = None
        self._written = False

    def take(self, protection: Protection) -> bool:
        """This worker serves, and no supervisor would replace it.  False: ask again, to be sure."""
        if self._written:
            return True
        self._protection = protection
        self._scribe.do(self._write)
        return False

    def _write(self) -> None:
        with contextlib.suppress(BlockingIOError), self._runtime.lock(wait=False):
            self._written = True
            if not self._runtime.exists():
                return
            if supervisor_of(self._runtime) is not None:
                return  # another went on with us, and notes it
            state, pid = self._runtime.state(), os.getpid()
            another = state.worker_pid != pid
            state = state._replace(
                status=Status.RUNNING,
                reason=None,
                worker_pid=pid,
                worker_started=start_ticks(pid),
                restarts=state.restarts + another,
                protection=self._protection,
            )
            self._runtime.write_state(state)
