"""Memory of backends and of a trace, as a worker has it: from its start, or while it runs."""

from __future__ import annotations

from collections.abc import Mapping

from fuseswap.daemon.attachment import TRACE, Attachment
from fuseswap.daemon.device_files import BACKEND_PREFIX
from fuseswap.daemon.trace_file import Submit, TraceFile
from fuseswap.filesystem.backends import Backends
from fuseswap.filesystem.device import Device
from fuseswap.store.region import Region


class Memories:
    """`regions`: by name of the backend; it is used once that is added.  `trace`: the ring."""

    def __init__(self, fds: Mapping[str, int]) -> None:
        """``fds``: of all files that a worker inherits."""
        start = len(BACKEND_PREFIX)
        self.regions = {
            name[start:]: Region(fd) for name, fd in fds.items() if name.startswith(BACKEND_PREFIX)
        }
        self.trace = TraceFile()

    def hold(self, one: Attachment, backends: Backends | None = None) -> None:
        """Map it where it is memory of a backend that is not known; offered to ``backends``."""
        name = one.name.removeprefix(BACKEND_PREFIX)
        if one.name == TRACE:
            self.trace.hold(one)
        elif name != one.name and name not in self.regions:
            self.regions[name] = Region(one.fds[0])
            if backends:
                backends.offer(name, self.regions[name])

    async def trace_on(self, device: Device, one: Attachment, submit: Submit) -> None:
        """Have ``device`` write into the ring; ``submit`` maps it in a thread.

        Raises `InvalidArgument`, `HostError` or `OSError`.
        """
        await self.trace.open_in(submit, one)
        self.trace.begin(device)

    def drop(self, name: str, device: Device | None) -> None:
        """Of an attachment ``name``; raises `InvalidArgument` while its backend is in use."""
        backend = name.removeprefix(BACKEND_PREFIX)
        if name == TRACE:
            self.trace.end(device)
        elif backend != name:
            if device:
                device.backends.withdraw(backend)
            if memory := self.regions.pop(backend, None):
                memory.close()

    def forget(self, name: str) -> None:
        """Not closed: a device that is paused may still look at it."""
        self.regions.pop(name.removeprefix(BACKEND_PREFIX), None)
        if name == TRACE:
            self.trace = TraceFile()
