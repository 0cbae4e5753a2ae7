"""The worker processes of a device, found without its supervisor.

``state.json`` says which worker serves, but only once it is written.  A standby may have taken
over a moment ago, or a process was being started when its supervisor died.  These are found by
their command line, in ``/proc``.  Only processes of our own user count: any user may give his
process such a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Iterable
from typing import Any

_MODULE = b"fuseswap.daemon.worker"
_TIER_MODULE = b"fuseswap.tiers.tier_process"


def workers_of(name: str, directory: str) -> list[int]:
    """Process ids of every worker of the device ``name`` with this runtime ``directory``."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            said = arguments_of(int(entry))
            if said.get("name") == name and said.get("directory") == directory:
                found.append(int(entry))
    return found


def arguments_of(pid: int) -> dict[str, Any]:
    """What a worker was started with; empty for any other process, or one that has ended."""
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return {}
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
        if _MODULE not in words:
            return {}
        said = json.loads(words[-2])
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def tier_processes_of(identity: str) -> list[int]:
    """Process ids of tier processes that a former supervisor started for this tier."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if not entry.isdecimal() or os.stat(f"/proc/{entry}").st_uid != os.geteuid():
                continue
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
            if _TIER_MODULE in words and json.loads(words[-2])["identity"]["id"] == identity:
                found.append(int(entry))
    return found


def wake(pids: Iterable[int]) -> None:
    """Let them go on, where they were stopped."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def end(pids: Iterable[int]) -> None:
    """SIGKILL, and wait until they are gone; not for children, which must be reaped."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                os.kill(pid, signal.SIGKILL)
                poll = select.poll()
                poll.register(pidfd, select.POLLIN)
                poll.poll()
            finally:
                os.close(pidfd)
