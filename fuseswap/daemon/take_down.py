"""Take a device down: swapoff -> loop device -> unmount (the supervisor then ends and cleans up).

Where that has died, or is killed since it does not end, the files of tiers are given back here.

A process below the mountpoint is not in the way, nor is a container whose mount namespace has a
copy.  The mount goes lazily, and then its connection is cut.  A process that has swapfile or loop
device open is, for longer than `_PATIENCE_S`: programs look at devices that come and go.

Safe to repeat.  Once the swap is off no signal interrupts it.  Called by the commands, with the
device's lock held; needs root.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from fuseswap.daemon.device_files import Status
from fuseswap.daemon.device_info import loop_of, mountpoint_of
from fuseswap.daemon.processes import (
    all_of,
    end_all,
    noted,
    supervisor_of,
    wait_for_end,
    wake,
    workers_of,
)
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.switch_off import switch_off
from fuseswap.errors import HostError
from fuseswap.linux import ending, loop, mount, swap_area
from fuseswap.linux.timed_file import read_file
from fuseswap.tiers.backing_file import NotClaimed, release_backing

_CLOSED_WITHIN_S = 2.0  # the kernel closes files of a process a moment after its end
_LOOK_S = 0.02

_PATIENCE_S = 1.0
_LOOK_EVERY_S = 0.05


def down(runtime: Runtime) -> list[str]:
    """Undo `up` in order; a sentence for each file that could not be given back.

    Raises `HostError`, having changed nothing, where swapoff can't end, or a process has the
    swapfile open: it would lose what it wrote.
    """
    mountpoint = mountpoint_of(runtime)
    device = loop_of(runtime)
    _refuse_users(runtime, mountpoint, device)
    wake(runtime)
    if device and swap_area.area_of(device):
        _refuse_endless_swapoff(runtime)
        switch_off(runtime, device)
    with ending.held():
        if device:
            loop.detach(device)
        _unmount(runtime, mountpoint)
        try:
            wait_for_end(runtime)
        except HostError:  # it is of no use any more
            end_all(runtime)
        left = _give_files_back(runtime)
        runtime.remove()
    return left


def _refuse_users(runtime: Runtime, mountpoint: str, device: str | None) -> None:
    """Raise `HostError` where a process has swapfile or loop device open, and keeps it."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        what, users = device or "", mount.openers_of(device) if device else []
        if not users and mount.is_mounted(mountpoint):
            what = f"{mountpoint}/swapfile"
            users = mount.users_of(what, mountpoint)
        if not users:
            return
        if time.monotonic() > deadline:
            raise HostError(f"{what} is in use by {', '.join(users)}; {runtime.name} is up")
        time.sleep(_LOOK_EVERY_S)


def _give_files_back(runtime: Runtime) -> list[str]:
    """Those that no supervisor gave back; what can't be keeps its claim, and is told."""
    left: list[str] = []
    try:
        settings, noted = runtime.config(), runtime.state()
    except HostError:  # there is no device any more
        return left
    files = [
        (path, made, one.is_encrypted)
        for one in settings.attachments
        for _, path, made in one.backing_files()
    ]
    if settings.backing:
        files.append((settings.backing, noted.made_backing, settings.backing_encrypt))
    deadline = time.monotonic() + _CLOSED_WITHIN_S
    for path, made, encrypted in files:
        while True:
            try:
                release_backing(path, runtime.name, made=made, encrypted=encrypted)
            except NotClaimed:
                pass
            except HostError as exc:
                if os.path.exists(path):
                    if time.monotonic() < deadline:
                        time.sleep(_LOOK_S)
                        continue
                    left.append(f"{path} stays as it is: {exc}")
            break
    return left


def _unmount(runtime: Runtime, mountpoint: str) -> None:
    """Also where a process is in there.  Raises `HostError`."""
    connections = mount.connections_of(all_of(runtime))
    if mounted := mount.connection_of(mountpoint):
        connections.add(mounted)
    mount.unmount(mountpoint, lazy=True)
    for connection in connections:
        mount.abort(connection)


def _refuse_endless_swapoff(runtime: Runtime) -> None:
    """Raise `HostError` where no worker would answer swapoff's reads; without a process it ends."""
    supervised = supervisor_of(runtime) is not None
    if supervised and noted(runtime).status == Status.DEGRADED:
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
    mountpoint = mountpoint_of(runtime)
    with contextlib.suppress(HostError):
        end_all(runtime)
    with contextlib.suppress(HostError):
        device = loop_of(runtime)
        if device:
            loop.detach(device)
    with contextlib.suppress(HostError):
        _unmount(runtime, mountpoint)
    runtime.remove()
