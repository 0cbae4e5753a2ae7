"""``state.json``, as the supervisor keeps it: noted at once, written by its scribe.

The runtime directory lies on a tmpfs, whose pages may be swapped out to the device itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from fuseswap.host import notify
from fuseswap.host.runtime import Runtime, write_json
from fuseswap.scribe import Scribe


class StateFile:
    """What is known of supervisor and workers; `values` is read, and written by `note` alone."""

    def __init__(self, runtime: Runtime, scribe: Scribe) -> None:
        self._path = runtime.state_path
        self._scribe = scribe
        self.values: dict[str, Any] = {"supervisor_pid": os.getpid(), "restarts": 0}
        self.standby_pid: Callable[[], int | None] = lambda: None

    def note(self, status: str, **more: Any) -> None:
        """From now on the device has this ``status``; a ``reason`` holds until the next one."""
        self.values.pop("reason", None)
        self.values.update(status=status, **more)
        self.write_soon()

    def write_soon(self) -> None:
        """Have it written, from any thread."""
        self._scribe.do(self._write)

    def _write(self) -> None:
        values = {**self.values, "standby_pid": self.standby_pid()}
        with contextlib.suppress(OSError):
            notify.notify(f"STATUS={values.get('status')}")
        if "status" in values:
            write_json(self._path, values)
