"""Take a device down: swapoff -> loop device -> unmount (the supervisor then ends and cleans up).

Safe to repeat.  Called by the commands, with the device's lock held; needs root.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from fuseswap.daemon.device_files import Status
from fuseswap.daemon.device_info import loop_of, mountpoint_of
from fuseswap.daemon.processes import (
    is_ours,
    processes_of,
    supervisor_of,
    wait_for_end,
    wait_until_gone,
    wake,
    workers_of,
)
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.switch_off import switch_off
from fuseswap.errors import HostError
from fuseswap.linux import loop, mount, swap_area
from fuseswap.linux.timed_file import read_file


def down(runtime: Runtime) -> None:
    """Undo `up` in order.

    Raises `HostError`, having changed nothing, where swapoff can't end, or the mount is in use.
    """
    mountpoint = mountpoint_of(runtime)
    if mount.is_mounted(mountpoint) and (holders := mount.holders(mountpoint)):
        raise HostError(f"{mountpoint} is in use by {', '.join(holders)}; {runtime.name} is up")
    device = loop_of(runtime)
    wake(runtime)
    if device:
        if swap_area.area_of(device):
            _refuse_endless_swapoff(runtime)
            switch_off(runtime, device)
        loop.detach(device)
    mount.unmount(mountpoint)
    wait_for_end(runtime)
    runtime.remove()


def _refuse_endless_swapoff(runtime: Runtime) -> None:
    """Raise `HostError` where no worker would answer swapoff's reads; without a process it ends."""
    supervised = supervisor_of(runtime) is not None
    if supervised and runtime.state().status == Status.DEGRADED:
        raise HostError(
            f"{runtime.name} is degraded, swapoff would hang; first: "
            f"fuseswap restart {runtime.name}"
        )
    if not supervised and workers_of(runtime):
        try:
            read_file(Path(runtime.mountpoint()) / "stats" / "stored_pages")
        except (HostError, OSError):
            raise HostError(
                f"the worker of {runtime.name} does not answer and nobody would replace it; "
                f"see {runtime.log_path}"
            ) from None


def cut_off(runtime: Runtime) -> None:
    """By force, where nothing was swapped out yet: end the processes, detach, unmount, remove."""
    mountpoint = runtime.mountpoint()
    state = runtime.state()
    noted = {state.supervisor_pid, state.worker_pid or 0} - {0}
    pids = noted | set(processes_of(runtime.name))
    for pid in pids:
        if is_ours(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(HostError):
        wait_until_gone(pids, runtime)
    with contextlib.suppress(HostError):
        device = loop_of(runtime)
        if device:
            loop.detach(device)
    with contextlib.suppress(HostError):
        mount.unmount(mountpoint, lazy=True)
    runtime.remove()
