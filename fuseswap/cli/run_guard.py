"""Cleans up after ``fuseswap run`` where that was killed.

    python -m fuseswap.cli.run_guard NAME CGROUP <PIPE

Waits for the end of the pipe.  Where nothing was written to it, the process at its other end was
killed: whatever runs in the cgroup is ended, and the device goes.
"""

from __future__ import annotations

import contextlib
import signal
import sys

from fuseswap.daemon import take_down
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import FuseswapError
from fuseswap.linux.cgroup import MemoryCgroup


def clean_up(runtime: Runtime, cgroup: MemoryCgroup) -> None:
    """End what runs in ``cgroup``, and take both away, if they are there."""
    cgroup.kill()
    cgroup.remove()
    with runtime.lock(), contextlib.suppress(FuseswapError):
        if runtime.exists():
            take_down.down(runtime)


def main(name: str, cgroup: str) -> None:
    """Wait, and clean up."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if not sys.stdin.buffer.read(1):
        clean_up(Runtime(name), MemoryCgroup(cgroup, 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
