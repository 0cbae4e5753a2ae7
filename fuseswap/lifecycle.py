"""Bring a device up and take it down: supervisor, mount, loop device, swap, in order.

    up:    runtime directory -> supervisor (memory, mount, worker) -> loop -> mkswap -> swapon
    down:  swapoff -> loop -> unmount (the supervisor then ends and cleans up)

Each step of `up` is undone when a later one fails.  Both are safe to repeat.  Called by
the commands, with the device's lock held; root except for `start_filesystem`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseswap import libc, strays
from fuseswap.config import DeviceConfig
from fuseswap.errors import HostError
from fuseswap.host import control, loop, memory_limits, mount, resource_limits, swap
from fuseswap.host.reading import read_file
from fuseswap.host.runtime import Runtime
from fuseswap.standby import has_room
from fuseswap.switch_off import switch_off
from fuseswap.worker_process import FLAGS, SUPERVISOR_ENVIRONMENT

_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 30.0
_STANDBY_TIMEOUT_S = 30.0  # 0.3 s on an idle machine
_RESTART_TIMEOUT_S = 300.0


class MountFailed(HostError):
    """The file system did not come up (exit code 32)."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What `up --json` prints."""

    name: str
    mountpoint: str
    swapfile: str
    loop: str | None
    supervisor_pid: int
    worker_pid: int | None
    size_bytes: int


def describe(runtime: Runtime) -> DeviceInfo:
    """The device as it is; raises `HostError` where there is none."""
    config, state = runtime.config(), runtime.state()
    swapfile = f"{config['mountpoint']}/swapfile"
    return DeviceInfo(
        name=runtime.name,
        mountpoint=config["mountpoint"],
        swapfile=swapfile,
        loop=loop_of(runtime),
        supervisor_pid=state.get("supervisor_pid", 0),
        worker_pid=state.get("worker_pid"),
        size_bytes=config["size_bytes"],
    )


def mountpoint_of(runtime: Runtime) -> str:
    """Its mountpoint, also where only the mount is left.  Raises `HostError`."""
    default = str(runtime.default_mountpoint)
    if not runtime.exists() and mount.is_mounted(default):
        return default
    mountpoint: str = runtime.config()["mountpoint"]
    return mountpoint


def loop_of(runtime: Runtime) -> str | None:
    """Its loop device: by the backing file, or, once that has lost its name, as noted by `up`."""
    found = loop.find(f"{mountpoint_of(runtime)}/swapfile")
    if found or not runtime.loop_path.exists():
        return found
    noted = runtime.loop_path.read_text()
    return noted if loop.backing_of(noted) == "/swapfile" else None


def is_up(runtime: Runtime) -> bool:
    """Whether the file system of this device is mounted."""
    return runtime.exists() and mount.is_mounted(runtime.config()["mountpoint"])


def start_filesystem(runtime: Runtime, config: DeviceConfig) -> None:
    """Start a supervisor and wait until the file system answers.

    Raises `MountFailed`; `HostError` where a limit of this process or its cgroup is too low.
    Neither leaves anything behind.
    """
    mountpoint = Path(config.mountpoint)
    if mount.is_mounted(config.mountpoint):
        raise MountFailed(
            f"{config.mountpoint} is mounted already; if nobody serves it: fuseswap down "
            f"{runtime.name}"
        )
    content = config.to_json(swap.memory_bytes())
    settle_limits(content)
    memory_limits.require(config.pool_limit_bytes)
    try:
        if runtime.exists() and loop_of(runtime):
            raise MountFailed(f"{runtime.name} was not taken down; first: fuseswap down")
        runtime.remove()  # what a supervisor that was killed left behind
        runtime.create(content)
        mountpoint.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        runtime.remove()
        raise MountFailed(f"cannot prepare {config.mountpoint}: {exc.strerror}") from exc
    try:
        answer = _spawn_supervisor(runtime, {})
    except OSError as exc:
        answer = f"the supervisor can't be started: {exc.strerror}"
    if answer != "ready":
        said = [line for line in runtime.log_tail() if "supervisor: cannot start" not in line]
        cut_off(runtime)
        reason = answer or "the supervisor did not start"
        raise MountFailed(": ".join([reason, *said[-1:]]))


def settle_limits(content: dict[str, Any]) -> None:
    """Raise the limits of this process to what the device needs, or refuse: `HostError`."""
    needs = resource_limits.needs(content["region_bytes"], content["backing_bytes"])
    resource_limits.settle(needs)


def cut_off(runtime: Runtime) -> None:
    """By force, where nothing was swapped out yet: end the processes, detach, unmount, remove."""
    mountpoint = runtime.config()["mountpoint"]
    state = runtime.state()
    pids = {state.get("supervisor_pid", 0), state.get("worker_pid", 0), *processes_of(runtime.name)}
    for pid in pids:
        if pid and is_ours(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(HostError):
        _wait_until_gone(pids, runtime)
    with contextlib.suppress(HostError):
        device = loop_of(runtime)
        if device:
            loop.detach(device)
    with contextlib.suppress(HostError):
        mount.unmount(mountpoint, lazy=True)
    runtime.remove()


def processes_of(name: str) -> list[int]:
    """Supervisor and workers of a device, by their command lines: some are in no state file."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        supervises = b"fuseswap.supervisor" in words and name.encode() in words
        works = b"fuseswap.worker" in words and any(
            f'"name": "{name}"'.encode() in word for word in words
        )
        if supervises or works:
            found.append(int(path.parent.name))
    return found


def adopt(runtime: Runtime, files: dict[str, int]) -> None:
    """Start a supervisor over the descriptors of one that died.  Raises `HostError`.

    ``files``: every region, ``fuse``, and ``backing`` where there is one.
    """
    config = runtime.config()
    if not files:
        raise HostError(f"nobody serves {runtime.name} any more; first: fuseswap down")
    wanted = [*config["region_bytes"], "fuse", *(["backing"] if config["backing"] else [])]
    missing = [name for name in wanted if name not in files]
    if missing:
        raise HostError(f"{runtime.name} lost its supervisor, and its {missing[0]} was not kept")
    if config["transport"] == "pyfuse3" or runtime.state().get("memory") == "sysv":
        raise HostError(
            f"{runtime.name} lost its supervisor and can't get another (pyfuse3, or System V "
            "memory); when it is convenient: fuseswap down, then up"
        )
    _wake(runtime)
    answer = _spawn_supervisor(runtime, {name: files[name] for name in wanted})
    if answer != "ready":
        raise HostError(answer or f"the supervisor did not start; see {runtime.log_path}")


def workers_of(runtime: Runtime) -> list[int]:
    """Every worker of the device that is alive, the one that is noted as serving first."""
    noted = runtime.state().get("worker_pid")
    found = strays.workers_of(runtime.name, str(runtime.directory))
    first = [noted] if noted and is_ours(noted) else []  # also one of an older version
    return first + [pid for pid in found if pid != noted]


def _files_of_worker(runtime: Runtime) -> dict[str, int]:
    """The descriptors of a worker that outlived its supervisor, by name; none without one.

    Any will do: one that serves, or one that would.
    """
    for pid in workers_of(runtime):
        theirs = strays.arguments_of(pid).get("fds", {})
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                return {name: libc.pidfd_getfd(pidfd, fd) for name, fd in theirs.items()}
            except OSError:
                continue  # it ends, or has not got that far
            finally:
                os.close(pidfd)
    return {}


def _spawn_supervisor(runtime: Runtime, files: dict[str, int]) -> str:
    """Start it detached, to adopt ``files`` if there are any.

    Returns ``ready``, its error, or "" where it said nothing.
    """
    ours, theirs = os.pipe()
    command = [sys.executable, *FLAGS, "-m", "fuseswap.supervisor"]
    command += [runtime.name, str(theirs), json.dumps(files)]
    with open(runtime.log_path, "ab") as log:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, **SUPERVISOR_ENVIRONMENT},
            pass_fds=(theirs, *files.values()),
            start_new_session=True,
        )
    os.close(theirs)
    with open(ours, "rb", buffering=0) as pipe:
        poll = select.poll()
        poll.register(pipe.fileno(), select.POLLIN)
        if not poll.poll(_START_TIMEOUT_S * 1000):
            return ""
        return os.read(pipe.fileno(), 4096).decode().strip()


def start_swap(runtime: Runtime, *, swapon: bool, priority: int) -> None:
    """Attach the loop device and, if wanted, make and enable the swap.  Raises `HostError`."""
    swapfile = f"{runtime.config()['mountpoint']}/swapfile"
    device = loop.find(swapfile) or loop.attach(swapfile)
    runtime.loop_path.write_text(device)
    if swapon and swap.area_of(device) is None:
        swap.make(device, runtime.name)
        swap.switch_on(device, priority)


def up(
    runtime: Runtime,
    config: DeviceConfig,
    *,
    swapon: bool,
    stored: dict[str, int] | None = None,
) -> DeviceInfo:
    """Everything; what is up already stays as it is.  A failed one leaves nothing behind.

    A file system that is mounted without loop device or swap gets what is missing; one
    without a supervisor gets one, with the descriptors of ``stored`` or of its worker.
    """
    if is_up(runtime):
        state = runtime.state()
        if not is_ours(state.get("supervisor_pid", 0)):
            settle_limits(runtime.config())
            adopt(runtime, stored or _files_of_worker(runtime))
        start_swap(runtime, swapon=swapon, priority=config.priority)
        return describe(runtime)
    start_filesystem(runtime, config)
    _wait_for_standby(runtime, config)
    try:
        start_swap(runtime, swapon=swapon, priority=config.priority)
    except BaseException:
        _take_back(runtime)
        raise
    return describe(runtime)


def _take_back(runtime: Runtime) -> None:
    """Undo an `up` that failed; by force where `down` can't and no page is in the swap."""
    try:
        down(runtime)
    except (HostError, OSError):
        device = loop_of(runtime)
        if not device or not swap.area_of(device):
            cut_off(runtime)


def _wait_for_standby(runtime: Runtime, config: DeviceConfig) -> None:
    """Until the standby is there, before anything is stored: later there may be no memory for it.

    Not for ever, and not where there is none now: it is made when there is room.
    """
    deadline = time.monotonic() + _STANDBY_TIMEOUT_S
    while config.standby and config.transport == "devfuse" and has_room():
        if runtime.state().get("standby_pid") or time.monotonic() > deadline:
            return
        time.sleep(0.02)


def down(runtime: Runtime) -> None:
    """Undo `up` in order.  Raises `HostError`, having changed nothing, where swapoff can't end."""
    mountpoint = mountpoint_of(runtime)
    device = loop_of(runtime)
    _wake(runtime)
    if device:
        if swap.area_of(device):
            _refuse_endless_swapoff(runtime)
            switch_off(runtime, device)
        loop.detach(device)
    mount.unmount(mountpoint)
    _wait_for_supervisor(runtime)
    runtime.remove()


def _wake(runtime: Runtime) -> None:
    """Let processes that somebody stopped go on: nobody else can serve what they hold."""
    strays.wake([*_supervisor_of(runtime), *workers_of(runtime)])


def _supervisor_of(runtime: Runtime) -> list[int]:
    pid = runtime.state().get("supervisor_pid", 0)
    return [pid] if is_ours(pid) else []


def _refuse_endless_swapoff(runtime: Runtime) -> None:
    """Raise `HostError` where nobody would answer swapoff's reads; without any process it ends."""
    state = runtime.state()
    supervised = is_ours(state.get("supervisor_pid", 0))
    if supervised and state.get("status") == "degraded":
        raise HostError(
            f"{runtime.name} is degraded, swapoff would hang; first: "
            f"fuseswap restart {runtime.name}"
        )
    if not supervised and workers_of(runtime):
        try:
            read_file(Path(runtime.config()["mountpoint"]) / "stats" / "stored_pages")
        except (HostError, OSError):
            raise HostError(
                f"the worker of {runtime.name} does not answer and nobody would replace it; "
                f"see {runtime.log_path}"
            ) from None


def restart(runtime: Runtime) -> str:
    """Replace the worker by a new one; returns what was done, in one line.

    Raises `HostError` where it was not: the old worker goes on then, if there was one; or
    where there is no device.
    """
    runtime.config()
    if not is_up(runtime) or not is_ours(runtime.state().get("supervisor_pid", 0)):
        raise HostError(f"{runtime.name} has no supervisor; try: fuseswap up {runtime.name}")
    _wake(runtime)
    try:
        return control.ask(runtime.control_path, "restart", _RESTART_TIMEOUT_S)
    except HostError as exc:
        said = [line for line in runtime.log_tail() if " supervisor: " not in line]
        why = said[-1:] if "ended before" in str(exc) else []
        text = ": ".join([f"{runtime.name} was not restarted", str(exc), *why])
        raise HostError(text) from None


def _wait_for_supervisor(runtime: Runtime) -> None:
    """Wait until supervisor and workers are gone.  Raises `HostError` where they stay."""
    _wait_until_gone({*workers_of(runtime), *_supervisor_of(runtime)}, runtime)


def _wait_until_gone(pids: set[int], runtime: Runtime) -> None:
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    for pid in pids:
        while is_ours(pid):
            if time.monotonic() > deadline:
                raise HostError(f"process {pid} does not end; see {runtime.log_path}")
            time.sleep(0.02)
    strays.end(workers_of(runtime))  # one that a supervisor was just starting when it died


def is_ours(pid: int | None) -> bool:
    """Whether ``pid`` is alive, no zombie, and a process of fuseswap (numbers are reused)."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"fuseswap." in command
