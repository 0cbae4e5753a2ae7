"""A memory cgroup for one process under pressure: never put the machine under it.

Knows v1 (``/sys/fs/cgroup/memory``) and v2 (the unified hierarchy with a memory
controller).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from types import TracebackType

from fuseswap.errors import HostError

_ROOT = Path("/sys/fs/cgroup")
_REMOVE_TIMEOUT_S = 5.0


class MemoryCgroup:
    """Context manager: made on entry, removed on exit (its processes must have ended)."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        self.name = name
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
        self.remove()

    def remove(self) -> None:
        """Remove it, if it is there; its processes must have ended."""
        deadline = time.monotonic() + _REMOVE_TIMEOUT_S
        while self.path.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self.path.rmdir()
                return
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill every process in it, also those that are just being started."""
        deadline = time.monotonic() + _REMOVE_TIMEOUT_S
        while (found := self._processes()) and time.monotonic() < deadline:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _processes(self) -> list[int]:
        try:
            return [int(line) for line in (self.path / "cgroup.procs").read_text().split()]
        except OSError:
            return []

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

    def peak_bytes(self) -> int | None:
        """The most that was charged at once; None before Linux 5.19 with version 2."""
        return self._read("memory.max_usage_in_bytes" if self._v1 else "memory.peak")

    def peak_with_swap_bytes(self) -> int | None:
        """The same, with what was in swap; None where the kernel does not count it.

        Version 2 has two peaks, which may have been at two times (Linux 6.5).
        """
        if self._v1:
            return self._read("memory.memsw.max_usage_in_bytes")
        swap, memory = self._read("memory.swap.peak"), self.peak_bytes()
        return None if swap is None or memory is None else swap + memory

    def _read(self, name: str) -> int | None:
        try:
            return int((self.path / name).read_text())
        except OSError:
            return None
