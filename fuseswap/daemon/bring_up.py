"""Bring a device up: supervisor, mount, loop device, swap, in order.

    runtime directory -> supervisor (memory, mount, worker) -> loop -> mkswap -> swapon

What undoes a step is in the caller's `Undo` before the step begins: a later one may fail, or a
signal come.  Safe to repeat.  Called by the commands, with the device's lock held; root except for
`start_filesystem`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fuseswap.daemon import (
    environment,
    live_tiers,
    memory_limits,
    resource_limits,
    strays,
    tier_files,
)
from fuseswap.daemon.config import DeviceConfig
from fuseswap.daemon.device_files import Settings
from fuseswap.daemon.device_info import DeviceInfo, describe, is_up, loop_of
from fuseswap.daemon.processes import supervisor_of, wake, workers_of
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.standby import has_room
from fuseswap.daemon.switch_off import switch_off
from fuseswap.daemon.take_down import cut_off, down
from fuseswap.daemon.worker_process import holder
from fuseswap.errors import HostError, MountFailed
from fuseswap.linux import ending, loop, mount, private_files, swap_area, syscalls
from fuseswap.linux.ending import Undo
from fuseswap.tiers.ownership_label import BOTH_ENDS_BYTES
from fuseswap.units import MIB

_START_TIMEOUT_S = 90.0
_SLOWEST_DISK = 20 * MIB  # bytes a second: a backing file is written once from end to end
_ADOPT_TIMEOUT_S = 210.0  # longer than `TAKE_OVER_TIMEOUT_S`
_STANDBY_TIMEOUT_S = 30.0  # 0.3 s on an idle machine


def up(
    runtime: Runtime,
    config: DeviceConfig,
    undo: Undo,
    *,
    swapon: bool,
    stored: dict[str, int] | None = None,
) -> DeviceInfo:
    """Everything that is not up already.

    A file system that is mounted without loop device or swap gets what it lacks.  One
    without a supervisor gets one, with the descriptors of ``stored`` or of its worker.
    """
    if not is_up(runtime):
        start_filesystem(runtime, config, undo)
        _wait_for_standby(runtime, config)
        for spec in config.tiers:
            live_tiers.set_policy(runtime, spec)
    elif supervisor_of(runtime) is None:
        _settle_limits(runtime.config(), config)
        _adopt(runtime, {**_files_of_worker(runtime), **(stored or {})})
    _start_swap(runtime, undo, swapon=swapon, priority=config.priority)
    return describe(runtime)


def start_filesystem(runtime: Runtime, config: DeviceConfig, undo: Undo) -> None:
    """Start a supervisor and wait until the file system answers.

    Raises `MountFailed`; `HostError` where a limit of this process or its cgroup is too low.
    """
    if runtime.has_stripes():
        raise MountFailed(f"{runtime.name} is a set of stripes; first: fuseswap down")
    if mount.is_mounted(config.mountpoint):
        raise MountFailed(
            f"{config.mountpoint} is mounted already; if nobody serves it: fuseswap down "
            f"{runtime.name}"
        )
    settings = config.settings(swap_area.memory_bytes())
    _settle_limits(settings, config)
    memory_limits.require(config.pool_limit_bytes)
    if runtime.exists() and loop_of(runtime):
        raise MountFailed(f"{runtime.name} was not taken down; first: fuseswap down")
    undo.add(partial(take_back, runtime))
    try:
        with tier_files.opened(config.tiers, runtime.name, config.size_bytes) as attachments:
            settings = settings._replace(attachments=tuple(attachments))
            _make_directory(runtime, settings)
            _start_supervisor(runtime, settings)
    except HostError as exc:
        raise MountFailed(str(exc)) from exc


def _make_directory(runtime: Runtime, settings: Settings) -> None:
    """With the mountpoint.  Raises `MountFailed`."""
    try:
        runtime.remove()  # what a supervisor that was killed left behind
        runtime.create(settings)
        if Path(settings.mountpoint) == runtime.default_mountpoint:
            private_files.make_directory(runtime.default_mountpoint)
    except OSError as exc:
        raise MountFailed(f"cannot prepare {runtime.directory}: {exc.strerror}") from exc


def _start_supervisor(runtime: Runtime, settings: Settings) -> None:
    """Until the file system answers.  Raises `MountFailed`.

    Where it does not, all is over before the files of tiers are given back.
    """
    inherited = [fd for one in settings.attachments for fd in one.fds]
    with Undo() as undo:
        undo.add(partial(cut_off, runtime))
        try:
            answer = _spawn_supervisor(runtime, settings, {}, inherited)
        except OSError as exc:
            answer = f"the supervisor can't be started: {exc.strerror}"
        if answer != "ready":
            said = [line for line in runtime.log_tail() if "supervisor: cannot start" not in line]
            reason = answer or "the supervisor did not start"
            raise MountFailed(": ".join([reason, *said[-1:]]))


def _settle_limits(settings: Settings, config: DeviceConfig) -> None:
    """Raise the limits of this process to what the device needs, or refuse: `HostError`."""
    largest = max([settings.backing_bytes, *map(tier_files.size_bytes, settings.attachments)])
    planned = [(spec.size_bytes or config.size_bytes) + BOTH_ENDS_BYTES for spec in config.tiers]
    needs = resource_limits.needs(settings.region_bytes, max([largest, *planned]))
    resource_limits.settle(needs)


def _spawn_supervisor(
    runtime: Runtime, settings: Settings, files: dict[str, int], held: Sequence[int] = ()
) -> str:
    """Start it detached, to adopt ``files`` if there are any; it inherits ``held`` as well.

    Returns ``ready``, its error, or "" where it said nothing.
    """
    ours, theirs = os.pipe()
    flags = environment.supervisor_flags(testing=settings.testing)
    command = [sys.executable, *flags, "-m", "fuseswap.daemon.supervisor"]
    command += [runtime.name, str(theirs), json.dumps(files), str(runtime.directory)]
    # Held: one that has begun to be started must be found by what undoes that.
    with ending.held(), open(runtime.open_log(), "ab") as log:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment.of_supervisor(testing=settings.testing),
            pass_fds=(theirs, *files.values(), *held),
            start_new_session=True,
        )
    os.close(theirs)
    with open(ours, "rb", buffering=0) as pipe:
        poll = select.poll()
        poll.register(pipe.fileno(), select.POLLIN)
        timeout_s = _START_TIMEOUT_S + settings.backing_bytes / _SLOWEST_DISK
        timeout_s = _ADOPT_TIMEOUT_S if files else timeout_s
        if not poll.poll(timeout_s * 1000):
            return ""
        return os.read(pipe.fileno(), 4096).decode().strip()


def _adopt(runtime: Runtime, files: dict[str, int]) -> None:
    """Start a supervisor over the descriptors of one that died.  Raises `HostError`.

    ``files``: every region, ``fuse``, and ``backing`` where there is one; attachments.
    """
    settings = runtime.config()
    if not files:
        raise HostError(f"nobody serves {runtime.name} any more; first: fuseswap down")
    missing = [name for name in settings.needed_files if name not in files]
    if missing:
        raise HostError(f"{runtime.name} lost its supervisor, and its {missing[0]} was not kept")
    if not settings.resumes or runtime.state().memory == "sysv":
        raise HostError(
            f"{runtime.name} lost its supervisor and can't get another (pyfuse3, or System V "
            "memory); when it is convenient: fuseswap down, then up"
        )
    wake(runtime)
    held = {name: files[name] for name in settings.held_files if name in files}
    answer = _spawn_supervisor(runtime, settings, held)
    if answer != "ready":
        raise HostError(answer or f"the supervisor did not start; see {runtime.log_path}")


def _files_of_worker(runtime: Runtime) -> dict[str, int]:
    """The descriptors of a worker that outlived its supervisor, by name; none without one.

    Any will do: one that serves, or one that would.  Attachments have numbers in
    ``config.json``, and the worker that serves has each on which anything lies.
    """
    settings = runtime.config()
    pids = workers_of(runtime)
    files: dict[str, int] = {}
    for pid in pids:
        theirs = strays.descriptors_of(pid)
        wanted = {name: theirs[name] for name in settings.needed_files if name in theirs}
        files = _taken_from(pid, runtime, wanted)
        if wanted and len(files) == len(wanted):
            break
    if "header" not in files:
        return {}
    serving = holder(files["header"])
    for pid in sorted(pids, key=lambda pid: pid != serving):
        for one in settings.attachments:
            if one.name not in files:
                files.update(_taken_from(pid, runtime, one.files))
    return files


def _taken_from(pid: int, runtime: Runtime, wanted: dict[str, int]) -> dict[str, int]:
    """Our own descriptors for what the worker has under these numbers; none, where it has not.

    Nor where one of them could be another user's.
    """
    files: dict[str, int] = {}
    pidfd = strays.open_checked(pid, lambda: workers_of(runtime))
    if pidfd is None:
        return files
    with contextlib.suppress(ProcessLookupError):
        try:
            for name, fd in wanted.items():
                files[name] = syscalls.pidfd_getfd(pidfd, fd)
        except OSError:  # it ends, or has not got that far
            for fd in files.values():
                os.close(fd)
            return {}
        finally:
            os.close(pidfd)
    regions = runtime.config().region_bytes
    if not all(_is_ours(fd, is_region=name in regions) for name, fd in files.items()):
        for fd in files.values():
            os.close(fd)
        return {}
    return files


def _is_ours(fd: int, *, is_region: bool) -> bool:
    """Whether root or we own what ``fd`` leads to; of a region, whether it can be memory.

    A file that has a name is to be closed to others, too.
    """
    found = os.fstat(fd)
    is_file = stat.S_ISREG(found.st_mode)
    if is_region and (not is_file or fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR):
        return False
    is_open_to_others = is_file and found.st_nlink and found.st_mode & 0o022
    return found.st_uid in (0, os.geteuid()) and not is_open_to_others


def _start_swap(runtime: Runtime, undo: Undo, *, swapon: bool, priority: int) -> None:
    """Attach the loop device and, if wanted, make and enable the swap.  Raises `HostError`."""
    swapfile = f"{runtime.mountpoint()}/swapfile"
    device = loop_of(runtime)
    if device is None:
        undo.add(partial(_detach, runtime))
        device = loop.attach(swapfile)
    runtime.note_loop(device, loop.sequence(device))
    if swapon and swap_area.area_of(device) is None:
        undo.add(partial(_switch_off, runtime, device))
        swap_area.make(device, runtime.name)
        swap_area.switch_on(device, priority)


def _switch_off(runtime: Runtime, device: str) -> None:
    if swap_area.area_of(device):
        switch_off(runtime, device)


def _detach(runtime: Runtime) -> None:
    """By its file: it may have been attached a moment ago."""
    device = loop_of(runtime)
    if device and not swap_area.area_of(device):
        loop.detach(device)


def _wait_for_standby(runtime: Runtime, config: DeviceConfig) -> None:
    """Until the standby is there, before anything is stored: later there may be no memory for it.

    For `_STANDBY_TIMEOUT_S` at most, and not where there is no room now: it is made later.
    """
    deadline = time.monotonic() + _STANDBY_TIMEOUT_S
    while config.standby and has_room():
        if runtime.state().standby_pid or time.monotonic() > deadline:
            return
        time.sleep(0.02)


def take_back(runtime: Runtime) -> None:
    """What `start_filesystem` made; by force where `down` can't.

    With pages in the swap, which `_switch_off` did not get back, it stays.
    """
    if not runtime.directory.exists():
        return
    try:
        down(runtime)
    except (HostError, OSError):
        device = loop_of(runtime)
        if not device or not swap_area.area_of(device):
            cut_off(runtime)
