"""A device as the commands see it: mounted or not, where, on which loop device."""

from __future__ import annotations

from dataclasses import dataclass

from fuseswap.daemon.processes import all_of
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.linux import loop, mount


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
    return DeviceInfo(
        name=runtime.name,
        mountpoint=config.mountpoint,
        swapfile=config.swapfile,
        loop=loop_of(runtime),
        supervisor_pid=state.supervisor_pid,
        worker_pid=state.worker_pid,
        size_bytes=config.size_bytes,
    )


def mountpoint_of(runtime: Runtime) -> str:
    """Its mountpoint, also where ``config.json`` is gone or damaged; it need not be mounted.

    It is that of a process that serves it then, or the default.  Raises `HostError` where there
    is nothing of such a device.
    """
    try:
        return runtime.mountpoint()
    except HostError:
        if not runtime.directory.is_dir():
            raise
    served = mount.mountpoint_of(mount.connections_of(all_of(runtime)))
    return served or str(runtime.default_mountpoint)


def loop_of(runtime: Runtime) -> str | None:
    """Its loop device: as noted by `up`, if that is still what was attached, or by its file.

    The file may have lost its name, or not answer.
    """
    swapfile = f"{mountpoint_of(runtime)}/swapfile"
    noted, sequence = runtime.noted_loop()
    if noted:
        backing = loop.backing_of(noted)
        if sequence is None:  # Linux before 5.15, or a note of an older version
            is_same = backing == "/swapfile" or (
                backing == swapfile and loop.sequence(noted) is None
            )
        else:
            is_same = backing is not None and loop.sequence(noted) == sequence
        if is_same:
            return noted
    return loop.find(swapfile)


def is_up(runtime: Runtime) -> bool:
    """Whether the file system of this device is mounted."""
    return runtime.exists() and mount.is_mounted(runtime.mountpoint())
