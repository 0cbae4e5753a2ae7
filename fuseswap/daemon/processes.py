"""The processes of a device: who serves, who would, who is left.

By ``state.json`` and by command line (``strays.py``): some are in no state file.
"""

from __future__ import annotations

import time
from pathlib import Path

from fuseswap.daemon import strays
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError

_STOP_TIMEOUT_S = 30.0


def is_ours(pid: int | None) -> bool:
    """Whether ``pid`` is alive, no zombie, and a process of fuseswap (numbers are reused)."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"fuseswap." in command


def supervisor_of(runtime: Runtime) -> int | None:
    """Process id of the supervisor, None where it has died."""
    pid = runtime.state().supervisor_pid
    return pid if is_ours(pid) else None


def workers_of(runtime: Runtime) -> list[int]:
    """Every worker of the device that is alive, the one that is noted as serving first."""
    noted = runtime.state().worker_pid
    found = strays.workers_of(runtime.name, str(runtime.directory))
    first = [noted] if noted and is_ours(noted) else []  # also one of an older version
    return first + [pid for pid in found if pid != noted]


def processes_of(name: str) -> list[int]:
    """Supervisor and workers of a device, by their command lines: some are in no state file."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        supervises = b"fuseswap.daemon.supervisor" in words and name.encode() in words
        works = b"fuseswap.daemon.worker" in words and any(
            f'"name": "{name}"'.encode() in word for word in words
        )
        if supervises or works:
            found.append(int(path.parent.name))
    return found


def wake(runtime: Runtime) -> None:
    """Let processes that were stopped go on: no other can serve what they hold."""
    supervisor = supervisor_of(runtime)
    strays.wake([*([supervisor] if supervisor else []), *workers_of(runtime)])


def wait_for_end(runtime: Runtime) -> None:
    """Wait until supervisor and workers are gone.  Raises `HostError` where they stay."""
    supervisor = supervisor_of(runtime)
    wait_until_gone({*workers_of(runtime), *([supervisor] if supervisor else [])}, runtime)


def wait_until_gone(pids: set[int], runtime: Runtime) -> None:
    """Wait for ``pids``, and end workers that are left.  Raises `HostError` where they stay."""
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    for pid in pids:
        while is_ours(pid):
            if time.monotonic() > deadline:
                raise HostError(f"process {pid} does not end; see {runtime.log_path}")
            time.sleep(0.02)
    strays.end(workers_of(runtime))  # one that a supervisor was just starting when it died
