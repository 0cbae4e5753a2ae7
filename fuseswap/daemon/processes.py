"""The processes of a device: who serves, who would, who is left.

By ``state.json`` and by command line (``strays.py``): some are in no state file.  A number in
``state.json`` counts where a process of ours has it and began when that says.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from functools import partial

from fuseswap.daemon import strays
from fuseswap.daemon.device_files import DeviceState
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.linux.process import start_ticks

_STOP_TIMEOUT_S = 30.0


def is_ours(pid: int | None, started: int = 0) -> bool:
    """Whether ``pid`` is alive, no zombie, and the process of fuseswap that began at ``started``.

    0: an older version did not say when.
    """
    now = start_ticks(pid) if pid else 0
    if not pid or not now or started not in (0, now):
        return False
    return any(b"fuseswap." in word for word in strays.words_of(pid))


def alive(state: DeviceState) -> DeviceState:
    """``state`` without the numbers of processes that have ended: others may have them by now."""
    started = (state.supervisor_started, state.worker_started, state.standby_started)
    noted = (state.supervisor_pid, state.worker_pid, state.standby_pid)
    found = [pid if is_ours(pid, at) else None for pid, at in zip(noted, started, strict=True)]
    supervisor, worker, standby = found
    return state._replace(supervisor_pid=supervisor or 0, worker_pid=worker, standby_pid=standby)


def noted(runtime: Runtime) -> DeviceState:
    """The content of ``state.json``; nothing of a damaged one: `down` has to do without it."""
    try:
        return runtime.state()
    except HostError:
        return DeviceState()


def supervisor_of(runtime: Runtime) -> int | None:
    """Process id of the supervisor, None where it has died."""
    state = noted(runtime)
    return state.supervisor_pid if is_ours(state.supervisor_pid, state.supervisor_started) else None


def workers_of(runtime: Runtime) -> list[int]:
    """Every worker of the device that is alive, the one that is noted as serving first."""
    state = noted(runtime)
    serving = state.worker_pid
    found = strays.workers_of(runtime.name, str(runtime.directory))
    # Also one of an older version.
    first = [serving] if serving and is_ours(serving, state.worker_started) else []
    return first + [pid for pid in found if pid != serving]


def supervisors_of(runtime: Runtime) -> list[int]:
    """Those that are alive: also one that has noted nothing yet."""
    known = supervisor_of(runtime)
    found = strays.supervisors_of(runtime.name, str(runtime.directory))
    return list({*found, *([known] if known else [])})


def all_of(runtime: Runtime) -> list[int]:
    """Supervisors, which would start other workers, and workers."""
    return [*supervisors_of(runtime), *workers_of(runtime)]


def wake(runtime: Runtime) -> None:
    """Let processes that were stopped go on: no other can serve what they hold."""
    strays.wake(lambda: all_of(runtime))


def wait_for_end(runtime: Runtime) -> None:
    """Wait until supervisor and workers are gone, and end workers that are left.

    Raises `HostError` where they stay.
    """
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    for pid in all_of(runtime):
        pidfd = strays.open_checked(pid, lambda: all_of(runtime))
        if pidfd is None:
            continue
        try:
            if not strays.wait(pidfd, deadline - time.monotonic()):
                raise HostError(f"process {pid} does not end; see {runtime.log_path}")
        finally:
            os.close(pidfd)
    # One that a supervisor was just starting when it died.
    strays.end(lambda: workers_of(runtime))


def end_all(runtime: Runtime) -> None:
    """By force.  Raises `HostError` where they stay."""
    for find in (supervisors_of, workers_of):
        for pid in find(runtime):
            pidfd = strays.open_checked(pid, partial(find, runtime))
            if pidfd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.close(pidfd)
    wait_for_end(runtime)
