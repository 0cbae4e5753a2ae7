"""Files that root opens by a path: no other user may be able to change or exchange them.

    /var/tmp/a    each directory is opened from the one above it (O_PATH, O_NOFOLLOW), and so is
                  the file; what is looked at is the descriptor, and the file is opened through it

Trusted are root and the user of this process.  A directory belongs to one of them, and no other
may write there.  With the sticky bit (``/tmp``) others may: they can't rename or remove what is
ours.  The file belongs to one of them, no other may write to it, and it has one name.  A block
device may be of the group ``disk`` as well: that group owns every disk anyhow.

A symbolic link is followed where the same holds for it, as for those below ``/dev/disk``.
Nothing waits: a FIFO and a device are looked at, not opened.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from fuseswap.errors import HostError

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40  # as the kernel
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
}


class _Place(NamedTuple):
    """Where a path leads: ``fd`` of the directory; ``name`` in it; of a file that is there."""

    directory: int
    name: str
    fd: int | None
    is_link: bool


def status_of(path: str) -> os.stat_result | None:
    """Of a trusted file or block device; None where nothing is there.

    Raises `HostError`, with the reason and what mends it; `OSError`.
    """
    with _found(path) as place:
        return None if place.fd is None else _checked(place, path)


def directory_at(path: str) -> tuple[os.stat_result | None, bool]:
    """Whatever is there, or None, on a way that is trusted; and whether it is no link.

    Raises as `status_of`.
    """
    try:
        with _found(path) as place:
            return None if place.fd is None else os.fstat(place.fd), not place.is_link
    except FileNotFoundError:
        return None, True


def check(path: str) -> os.stat_result:
    """Of a directory or file, on a trusted way, that no other user may change; links are followed.

    Here the sticky bit is not enough.  Raises `HostError`, `OSError`.
    """
    with _found(path) as place:
        if place.fd is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        found = os.fstat(place.fd)
        _check_owner(found, path, path)
        if found.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if found.st_gid else 0)):
            mode = stat.S_IMODE(found.st_mode)
            raise HostError(
                f"{path} can be written to by others (mode {mode:04o}); "
                f"run: chmod go-w {_quoted(path)}"
            )
        return found


def open_file(path: str, flags: int) -> int:
    """As `os.open`, of a trusted file or block device; O_EXCL of the latter alone.

    With O_CREAT one that is not there is made, of mode 0600; one that is written to has no
    symbolic link as its last name.  Raises as `status_of`.
    """
    with _found(path) as place:
        if place.fd is None:
            made = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            if not flags & os.O_CREAT:
                made = os.O_NOFOLLOW | os.O_CLOEXEC  # which says that it is not there
            return os.open(place.name, flags | made, 0o600, dir_fd=place.directory)
        found = _checked(place, path)
        is_block = stat.S_ISBLK(found.st_mode)
        if place.is_link and flags & os.O_RDWR and not is_block:
            real = _quoted(os.path.realpath(path))
            raise HostError(f"{path} is a symbolic link; give the file itself: {real}")
        flags &= ~(os.O_CREAT | (0 if is_block else os.O_EXCL))
        return os.open(f"/proc/self/fd/{place.fd}", flags | os.O_CLOEXEC)


def read_text(path: str, *, private: bool, one_name: bool = True) -> str:
    """A trusted regular file.  Raises as `status_of`.

    ``private``: no other may read it.  ``one_name``: it has no other name.
    """
    with _found(path) as place:
        if place.fd is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        found = _checked(place, path, one_name=one_name)
        if not stat.S_ISREG(found.st_mode):
            raise HostError(f"{path} is a block device, not a file")
        if private and found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise HostError(f"{path} has mode {mode:04o}; run: chmod 600 {_quoted(path)}")
        fd = os.open(f"/proc/self/fd/{place.fd}", os.O_RDONLY | os.O_CLOEXEC)
    with open(fd, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def make_private(fd: int, path: str) -> None:
    """Mode 0600 for a regular file; raises `HostError`, and it is as it was, where another has it.

    A user who opened it while he might keeps his descriptor.  A lease is granted where none has.
    """
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        return
    os.fchmod(fd, 0o600)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        os.fchmod(fd, stat.S_IMODE(found.st_mode))
        quoted = _quoted(path)
        raise HostError(f"{path} is open in another process; see: lsof {quoted}") from None
    except OSError:  # a file system without leases
        return


@contextmanager
def _found(path: str) -> Iterator[_Place]:
    """Go there from ``/``, and trust each step."""
    left = os.path.abspath(path).split("/")[:0:-1]  # names to go, the next one last
    at, fd, links, is_link = os.open("/", _LOOK), None, 0, False
    try:
        _check_directory(os.fstat(at), "/", path)
        walked = "/"
        while True:
            name = left.pop() or "."
            try:
                fd = os.open(name, _LOOK, dir_fd=at)
            except FileNotFoundError:
                if left:
                    raise
                if is_link:
                    run = f"rm {_quoted(path)}"
                    raise HostError(f"{path} is a link that leads nowhere; run: {run}") from None
                break
            found = os.fstat(fd)
            here = os.path.normpath(os.path.join(walked, name))
            if stat.S_ISLNK(found.st_mode):
                links += 1
                is_link = is_link or not left
                if links > _MAX_LINKS:
                    raise HostError(f"{path} leads from link to link")
                _check_owner(found, here, path)
                target = os.readlink("", dir_fd=fd)
                left += [part for part in target.split("/")[::-1] if part]
                os.close(fd)
                fd = None
                if target.startswith("/"):
                    os.close(at)
                    at, walked = os.open("/", _LOOK), "/"
            elif left:
                os.close(at)
                at, fd, walked = fd, None, here
                if not stat.S_ISDIR(found.st_mode):
                    raise HostError(f"{here} is no directory")
                _check_directory(found, here, path)
            else:
                break
        yield _Place(at, name, fd, is_link)
    finally:
        os.close(at)
        if fd is not None:
            os.close(fd)


def _check_directory(found: os.stat_result, here: str, path: str) -> None:
    _check_owner(found, here, path)
    mode = found.st_mode
    writers = mode & (stat.S_IWOTH | (stat.S_IWGRP if found.st_gid else 0))
    if writers and not mode & stat.S_ISVTX:
        raise HostError(
            f"{here}, above {path}, can be written to by others; run: chmod go-w {_quoted(here)}"
        )


def _check_owner(found: os.stat_result, here: str, path: str) -> None:
    if found.st_uid in (0, os.geteuid()):
        return
    what = path if here == path else f"{here}, on the way to {path},"
    raise HostError(
        f"{what} belongs to user {found.st_uid}, who could change pages; run: "
        f"chown -h {os.geteuid()} {_quoted(here)}"
    )


def _checked(place: _Place, path: str, *, one_name: bool = True) -> os.stat_result:
    """Of the file itself."""
    assert place.fd is not None
    found = os.fstat(place.fd)
    is_block = stat.S_ISBLK(found.st_mode)
    if not is_block and not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise HostError(f"{path} is {kind}, neither a regular file nor a block device")
    _check_owner(found, path, path)
    writers = stat.S_IWOTH if is_block and _owns_disks(found.st_gid) else 0o022
    if found.st_mode & writers:
        mode = stat.S_IMODE(found.st_mode)
        raise HostError(
            f"{path} can be written to by others (mode {mode:04o}); run: chmod go-w {_quoted(path)}"
        )
    if one_name and not is_block and found.st_nlink != 1:
        raise HostError(
            f"{path} has {found.st_nlink} names, it needs to have one; see: "
            f"find / -xdev -samefile {_quoted(path)}"
        )
    return found


def _quoted(path: str) -> str:
    import shlex  # only here: the supervisor's memory is locked

    return shlex.quote(path)


def _owns_disks(group: int) -> bool:
    """Whether it is root's, or ``disk``."""
    with suppress(ImportError, KeyError):
        import grp  # only here: the supervisor's memory is locked

        return group in (0, grp.getgrnam("disk").gr_gid)
    return group == 0
