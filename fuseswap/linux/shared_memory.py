"""Memory for the shared state that can't be swapped out, also while no worker lives.

A swap store whose own memory is swapped out to itself is a deadlock, and the lock
of a process ends with it.  So the files are unevictable by themselves:

    tmpfs   a tmpfs of its own, ``noswap`` (Linux 6.4+), mounted nowhere: the descriptors
            keep it, nothing is left to clean up, and no namespace pins it
    sysv    System V shared memory with SHM_LOCK (older kernels), held by the
            supervisor; a descriptor of the file behind it serves like the others
    memfd   ordinary memory: only where no swap is served (an ordinary user)
"""

from __future__ import annotations

import os

from fuseswap.errors import HostError, in_words
from fuseswap.linux import syscalls
from fuseswap.linux.detached_mount import open_detached

KINDS = ("tmpfs", "sysv", "memfd")


def create_files(sizes: dict[str, int], kind: str | None = None) -> tuple[str, dict[str, int]]:
    """Make one zeroed sparse file a name; returns the kind used and the descriptors.

    ``kind`` None takes the best there is.  Raises `HostError` where a swap could not be
    served safely (root, and neither tmpfs noswap nor System V memory).
    """
    if kind is None and os.geteuid() != 0:
        kind = "memfd"
    for candidate in (kind,) if kind else ("tmpfs", "sysv"):
        try:
            return candidate, _MAKERS[candidate](sizes)
        except OSError as exc:
            reason = in_words(exc)
    raise HostError(f"no unevictable memory for the store: {reason}")


def _tmpfs(sizes: dict[str, int]) -> dict[str, int]:
    options = {"source": "fuseswap", "size": "0", "nr_inodes": "0", "mode": "0700"}
    root = open_detached("tmpfs", {**options, "noswap": None})
    try:
        return {name: _file(root, name, size) for name, size in sizes.items()}
    finally:
        os.close(root)


def _file(root: int, name: str, size: int) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=root)
    os.ftruncate(fd, size)
    return fd


def _sysv(sizes: dict[str, int]) -> dict[str, int]:
    return {name: syscalls.locked_shm(size) for name, size in sizes.items()}


def _memfd(sizes: dict[str, int]) -> dict[str, int]:
    files = {}
    for name, size in sizes.items():
        files[name] = os.memfd_create(f"fuseswap-{name}")
        os.ftruncate(files[name], size)
    return files


_MAKERS = {"tmpfs": _tmpfs, "sysv": _sysv, "memfd": _memfd}
