"""Mounting and unmounting the FUSE file system.

Root mounts with mount(2); an ordinary user through ``fusermount3``, which hands the
descriptor back over a socket (``_FUSE_COMMFD``, as libfuse's mount.c does it).
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial

from fuseswap.errors import HostError, in_words
from fuseswap.linux import syscalls
from fuseswap.linux.detached_mount import open_detached
from fuseswap.linux.process import command_of

FSTYPE = "fuse.fuseswap"
_ROOT_MODE = "40000"
_MOST_OVER_IT = 16
_SCAN_S = 1.0
_FEW = 256


def mount(mountpoint: str) -> int:
    """Mount at ``mountpoint`` and return the non-blocking ``/dev/fuse`` descriptor.

    Raises `HostError`.
    """
    fd = _mount_as_root(mountpoint) if os.geteuid() == 0 else _mount_as_user(mountpoint)
    os.set_blocking(fd, False)
    return fd


def _mount_as_root(mountpoint: str) -> int:
    try:
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        raise HostError(f"cannot open /dev/fuse ({exc.strerror}); load the fuse module") from exc
    # Root alone may look: the loop device asks as root, whoever's page it is.
    options = f"fd={fd},rootmode={_ROOT_MODE},user_id=0,group_id=0,default_permissions"
    try:
        syscalls.mount(
            "fuseswap", mountpoint, FSTYPE, syscalls.MS_NOSUID | syscalls.MS_NODEV, options
        )
    except OSError as exc:
        os.close(fd)
        raise HostError(f"cannot mount on {mountpoint}: {exc.strerror}") from exc
    return fd


def _mount_as_user(mountpoint: str) -> int:
    import subprocess  # only here: the supervisor's memory is locked for ever

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        command = ["fusermount3", "-o", "fsname=fuseswap,subtype=fuseswap", "--", mountpoint]
        environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
        try:
            done = subprocess.run(
                command,
                env=environment,
                pass_fds=(theirs.fileno(),),
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise HostError("'fusermount3' is missing; install fuse3") from None
        if done.returncode != 0:
            said = (done.stderr.strip() or "no reason given").splitlines()[-1]
            raise HostError(f"cannot mount on {mountpoint}: {said}")
        room = socket.CMSG_LEN(array.array("i").itemsize)
        _, control, _, _ = ours.recvmsg(1, room)
        return int(array.array("i", control[0][2])[0])


def make_read_only(mountpoint: str) -> None:
    """Nothing below it can be written any more, through this mount.  Raises `HostError`."""
    kept = syscalls.MS_NOSUID | syscalls.MS_NODEV
    flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | kept
    try:
        syscalls.mount("none", mountpoint, "none", flags, "")
    except OSError as exc:
        raise HostError(f"cannot make {mountpoint} read-only: {exc.strerror}") from exc


def unmount(mountpoint: str, *, lazy: bool = False) -> None:
    """Unmount; not mounted is fine.  Raises `HostError` where it is busy.

    ``lazy``: also where it is busy, together with mounts over it.  Its connection then lives as
    long as a process or a mount namespace has it: see `abort`.
    """
    if not is_mounted(mountpoint):
        return
    if os.geteuid() != 0:
        import subprocess

        flags = ["-u", "-z"] if lazy else ["-u"]
        done = subprocess.run(["fusermount3", *flags, "--", mountpoint], check=False)
        if done.returncode != 0:
            raise HostError(f"cannot unmount {mountpoint}; is a file in it open?")
        return
    try:
        syscalls.umount(mountpoint, lazy=lazy)
        for _ in range(_MOST_OVER_IT if lazy else 0):
            if not is_mounted(mountpoint):
                break
            syscalls.umount(mountpoint, lazy=True)
    except OSError as exc:
        why = in_words(exc)
        raise HostError(f"cannot unmount {mountpoint} ({why}); is a file in it open?") from exc


def abort(connection: str) -> None:
    """Cut a connection to the kernel, if it is still there: who waits for an answer gets an error.

    Otherwise a process in the mountpoint, or a container's copy of the mount, would keep it alive.
    Needs no fusectl below ``/sys``.
    """
    with contextlib.suppress(OSError):
        root = open_detached("fusectl", {})
        try:
            fd = os.open(f"{connection}/abort", os.O_WRONLY | os.O_CLOEXEC, dir_fd=root)
            try:
                os.write(fd, b"1")
            finally:
                os.close(fd)
        finally:
            os.close(root)


def connections_of(pids: Iterable[int]) -> set[str]:
    """Those that the processes serve, mounted or not, where the kernel says so (``fdinfo``)."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fdinfo"):
                found.update(_fields(f"/proc/{pid}/fdinfo/{fd}", "fuse_connection"))
    return found


def users_of(swapfile: str, mountpoint: str) -> list[str]:
    """As `openers_of`, of a file in ours; not one who has it through another mount."""
    mount_id = _mount_id(mountpoint) or ""
    return _openers(swapfile, lambda fd, info: mount_id in _fields(info, "mnt_id"))


def openers_of(device: str) -> list[str]:
    """Processes that have a block device open, ``bash (123)``, as far as /proc shows.

    Not a file of the same path elsewhere, nor who has only looked it up (O_PATH), as any user may.
    """
    try:
        number = os.stat(device).st_rdev
    except OSError:
        return []
    return _openers(device, partial(_is_device, number))


def _is_device(number: int, fd: str, info: str) -> bool:
    found = os.stat(fd)
    flags = _fields(info, "flags")
    is_opened = bool(flags) and not int(flags[0], 8) & os.O_PATH
    return stat.S_ISBLK(found.st_mode) and found.st_rdev == number and is_opened


def _openers(path: str, is_it: Callable[[str, str], bool]) -> list[str]:
    """Those with a descriptor of this path that ``is_it``, given with its ``fdinfo``.

    The path is compared first: other files are not touched, whose file system may hang.  However
    many descriptors a user keeps, it takes `_SCAN_S`: root's processes come first, and of each
    the first `_FEW`.
    """
    deadline = time.monotonic() + _SCAN_S
    found: list[str] = []
    left: list[str] = []
    processes = _roots_first()
    for most in (_FEW, None):
        for process in processes:
            for number, fd in enumerate(_descriptors(process)):
                if time.monotonic() > deadline:
                    return found
                if number == most:
                    left.append(process)
                    break
                if _is_at(process, fd, path, is_it):
                    found.append(f"{command_of(int(process))} ({process})")
                    break
        processes, left = left, []
    return found


def _roots_first() -> list[str]:
    """Every process: root can open the device, others can't."""
    of_root: list[str] = []
    others: list[str] = []
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            is_root = os.stat(f"/proc/{process}").st_uid == 0
            (of_root if is_root else others).append(process)
    return of_root + others


def _descriptors(process: str) -> Iterator[str]:
    """Their names, as they are asked for."""
    with contextlib.suppress(OSError), os.scandir(f"/proc/{process}/fd") as entries:
        for entry in entries:
            yield entry.name


def _is_at(process: str, fd: str, path: str, is_it: Callable[[str, str], bool]) -> bool:
    at = f"/proc/{process}/fd/{fd}"
    try:
        return os.readlink(at) == path and is_it(at, f"/proc/{process}/fdinfo/{fd}")
    except OSError:
        return False


def _fields(path: str, name: str) -> list[str]:
    """Values of a field in a file of ``/proc``."""
    with contextlib.suppress(OSError), open(path) as file:
        lines = [line.partition(":") for line in file]
        return [value.strip() for key, _, value in lines if key == name]
    return []


def _mount_id(mountpoint: str) -> str | None:
    fields = _mount_of(mountpoint)
    return fields[0] if fields else None


def is_connected(fd: int) -> bool:
    """Whether the `/dev/fuse` descriptor still has its mount."""
    poll = select.poll()
    poll.register(fd, 0)
    return not poll.poll(0)


def is_mounted(mountpoint: str) -> bool:
    """Whether our file system is mounted there; asks the kernel, not the file system."""
    return any(point == mountpoint for point in mountpoints())


def mountpoints() -> list[str]:
    """Every mountpoint of this kind, from /proc/self/mounts."""
    with open("/proc/self/mounts", errors="surrogateescape") as mounts:
        fields = [line.split(" ") for line in mounts]
    return [_unescape(point) for _, point, fstype, *_ in fields if fstype == FSTYPE]


def connection_of(mountpoint: str) -> str | None:
    """Minor device number of the mount: its name under /sys/fs/fuse/connections."""
    fields = _mount_of(mountpoint)
    return fields[2].partition(":")[2] if fields else None


def mountpoint_of(connections: Collection[str]) -> str | None:
    """Where one of them is mounted, None where none is."""
    with open("/proc/self/mountinfo", errors="surrogateescape") as mounts:
        for line in mounts:
            fields = line.split(" ")
            if FSTYPE in fields and fields[2].partition(":")[2] in connections:
                return _unescape(fields[4])
    return None


def _mount_of(mountpoint: str) -> list[str]:
    """Its line in ``mountinfo``, as words; empty where there is none."""
    with open("/proc/self/mountinfo", errors="surrogateescape") as mounts:
        for line in mounts:
            fields = line.split(" ")
            if _unescape(fields[4]) == mountpoint and FSTYPE in fields:
                return fields
    return []


def _unescape(path: str) -> str:
    for escaped, plain in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        path = path.replace(escaped, plain)
    return path
