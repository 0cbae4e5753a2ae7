"""Memory of backends, as a worker has it: from its start, or handed out while it runs."""

from __future__ import annotations

from collections.abc import Mapping

from fuseswap.daemon.attachment import Attachment
from fuseswap.daemon.device_files import BACKEND_PREFIX
from fuseswap.filesystem.backends import Backends
from fuseswap.store.region import Region


class Memories:
    """`regions`: by name of the backend; it is used once that is added."""

    def __init__(self, fds: Mapping[str, int]) -> None:
        """``fds``: of all files that a worker inherits."""
        start = len(BACKEND_PREFIX)
        self.regions = {
            name[start:]: Region(fd) for name, fd in fds.items() if name.startswith(BACKEND_PREFIX)
        }

    def hold(self, one: Attachment, backends: Backends | None = None) -> None:
        """Map it where it is memory of a backend that is not known; offered to ``backends``."""
        name = one.name.removeprefix(BACKEND_PREFIX)
        if name != one.name and name not in self.regions:
            self.regions[name] = Region(one.fds[0])
            if backends:
                backends.offer(name, self.regions[name])

    def drop(self, name: str, backends: Backends | None) -> None:
        """Raises `InvalidArgument` while its backend is one of ``backends``."""
        if backends:
            backends.withdraw(name)
        if memory := self.regions.pop(name, None):
            memory.close()

    def forget(self, name: str) -> None:
        """Not closed: a device that is paused may still look at it."""
        self.regions.pop(name, None)
