"""The process that writes a trace down; `trace start` runs it.

    python -m fuseswap.cli.trace_recorder NAME PATH LIMIT_BYTES RING_FD READY_FD

It has the file and the ring before a worker does, and says so by one byte.  A worker that stops
tells it through the ring; that the device has gone it finds out once a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time

from fuseswap.daemon import tracing
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import FuseswapError, HostError, in_words
from fuseswap.frontswap.trace_ring import EVENT_BYTES, HEADER_BYTES, TraceRing
from fuseswap.laboratory.recorder import Recorder
from fuseswap.laboratory.trace_format import TraceWriter
from fuseswap.linux.protect import lock_memory
from fuseswap.store.region import Region
from fuseswap.units import PAGE_SHIFT

_BEGIN_WITHIN_S = 120.0


def open_new(path: str) -> int:
    """A file of ours alone, where nothing was.  Raises `HostError`."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise HostError(f"cannot write {path}: {exc.strerror}") from exc
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


class _Watch:
    """Says why the device has gone."""

    def __init__(self, runtime: Runtime, path: str) -> None:
        self._runtime = runtime
        self._path = path
        self._began = False
        self._deadline = time.monotonic() + _BEGIN_WITHIN_S

    def is_over(self) -> str:
        """Whether our attachment has gone, or is another's; "" while it is ours."""
        try:
            found = tracing.running(self._runtime)
        except FuseswapError:
            return "the device was taken down"
        if found and found.get("path") == self._path:
            self._began = True
            return ""
        if self._began or time.monotonic() > self._deadline:
            return "the device goes on without it"
        return ""


def _record(name: str, path: str, limit_bytes: int, ring_fd: int, ready_fd: int) -> None:
    runtime = Runtime(name)
    settings = runtime.config()
    region = Region(ring_fd)
    capacity = (region.size_bytes - HEADER_BYTES) // EVENT_BYTES
    ring = TraceRing.create(region, capacity)
    about = {
        "page_count": settings.size_bytes >> PAGE_SHIFT,
        "pool_limit_bytes": settings.pool_limit_bytes,
        "began": int(time.time()),
        "source": "fuseswap",
    }
    with open(open_new(path), "wb") as file:
        writer = TraceWriter(file, about)
        file.flush()
        with contextlib.suppress(OSError):  # an ordinary user may not: then it can be swapped out
            lock_memory(populate=False)
        recorder = Recorder(ring, writer, limit_bytes, _Watch(runtime, path).is_over)
        os.write(ready_fd, b"+")
        os.close(ready_fd)
        try:
            reason = recorder.run()
        except OSError:
            _detach(runtime)  # the file has no room: the device has to know
            raise
    if reason.endswith("limit"):
        _detach(runtime)


def _detach(runtime: Runtime) -> None:
    with contextlib.suppress(FuseswapError), runtime.lock():
        tracing.detach(runtime)


def main(arguments: list[str]) -> int:
    """Record; an error before it began is told to the command."""
    name, path, limit, ring_fd, ready_fd = arguments
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with the trace
    try:
        _record(name, path, int(limit), int(ring_fd), int(ready_fd))
    except (FuseswapError, OSError) as exc:
        with contextlib.suppress(OSError):
            os.write(int(ready_fd), json.dumps(in_words(exc)).encode())
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
