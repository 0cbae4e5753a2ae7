"""A memory cgroup for one process under pressure: never put the machine under it.

Knows v1 (``/sys/fs/cgroup/memory``) and v2 (the unified hierarchy with a memory
controller).
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from types import TracebackType

from fuseswap.errors import HostError

_ROOT = Path("/sys/fs/cgroup")
_REMOVE_TIMEOUT_S = 5.0


class MemoryCgroup:
    """Context manager: made on entry, removed on exit (its processes must have ended)."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        self._v1 = (_ROOT / "memory" / "memory.limit_in_bytes").exists()
        self.path = (_ROOT / "memory" if self._v1 else _ROOT) / name
        self._limit_bytes = limit_bytes

    def __enter__(self) -> MemoryCgroup:
        """Raises `HostError` where there is no memory controller."""
        try:
            if not self._v1:
                (_ROOT / "cgroup.subtree_control").write_text("+memory")
            self.path.mkdir(exist_ok=True)
            self.set_limit(self._limit_bytes)
        except OSError as exc:
            raise HostError(f"no memory cgroup at {self.path}: {exc.strerror}") from exc
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        deadline = time.monotonic() + _REMOVE_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.path.rmdir()
                return
            time.sleep(0.05)

    def enter(self) -> None:
        """Move the calling process in (a child calls it between fork and exec)."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def set_limit(self, limit_bytes: int) -> None:
        """Allow more, or less.  Raises `OSError`."""
        limit = "memory.limit_in_bytes" if self._v1 else "memory.max"
        (self.path / limit).write_text(str(limit_bytes))

    def used_bytes(self) -> int:
        """Memory charged right now."""
        name = "memory.usage_in_bytes" if self._v1 else "memory.current"
        return int((self.path / name).read_text())
