"""Starts workers of one device: with which configuration, over which descriptors."""

from __future__ import annotations

import contextlib

from fuseswap.daemon.attachment import Attached
from fuseswap.daemon.device_files import Settings
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.worker_process import WorkerProcess
from fuseswap.errors import HostError


class Spawner:
    """`spawn` may be called from any thread."""

    def __init__(
        self, runtime: Runtime, settings: Settings, files: dict[str, int], attached: Attached
    ) -> None:
        """``files``: the descriptors that each worker inherits, by name, beside ``attached``."""
        self._runtime = runtime
        self._settings = settings
        self._files = files
        self._attached = attached

    def spawn(
        self, *, fresh: bool = False, rereads: bool = False, filtered: bool = True
    ) -> WorkerProcess:
        """A worker that gets ready.  Raises `HostError`.

        One that was asked for ``rereads`` ``config.json``.  In place of one that died it may
        not: that file may be on the swap which no process serves now.
        """
        return WorkerProcess(
            self._runtime,
            self._settings,
            self._files,
            self._attached,
            fresh=fresh,
            rereads=rereads,
            filtered=filtered,
        )

    def reread(self) -> None:
        """What the worker that was asked for has read is what its replacements get."""
        with contextlib.suppress(HostError):
            self._settings = self._runtime.config()
