"""Attachments: what workers hold beside the device itself, as a tier's descriptors.

    command   opens it, and hands it to the supervisor (``control_socket.py``)
    supervisor   notes it in ``config.json``, holds it, hands it on (``attaching.py``)
    worker    makes a tier of it (``worker_tiers.py``)

A descriptor has the same number in the supervisor and in each worker, from `FIRST_FD` on, where
nothing else is.  So ``config.json`` says where to find it in whichever process has outlived the
others.
"""

from __future__ import annotations

import fcntl
import os
import socket
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from fuseswap.errors import HostError

FIRST_FD = 128
LAST_FD = 255
MAX_FDS = 8  # of one attachment
TIER = "tier:"
TRACE = "trace:ring"  # there is one trace of a device at a time
MAY_FORGET = "may forget pages: no replica is waited for (replicas=N), and it is no mirror"
ANSWER_TIMEOUT_S = 20.0  # of a worker; one that hangs is replaced before


class Attachment(NamedTuple):
    """``description``: what a worker makes of it; of a tier, see ``tier_files.py``."""

    name: str  # ``tier:file0``
    fds: tuple[int, ...]
    description: dict[str, Any]

    @property
    def tier_name(self) -> str:
        """Of a tier: its name."""
        return self.name.removeprefix(TIER)

    @property
    def may_forget(self) -> bool:
        """Of a tier: whether it may forget what was written, as all of its leaves may."""
        leaves = self.description.get("leaves", [])
        return bool(leaves) and all(leaf.get("volatile", False) for leaf in leaves)

    @property
    def is_encrypted(self) -> bool:
        """Of a tier: whether what is written there can't be read by others."""
        return bool(self.description.get("encrypt"))

    @property
    def files(self) -> dict[str, int]:
        """Its descriptors by name: the first has that of the attachment."""
        return dict(zip(names_of(self.name), self.fds, strict=False))

    def backing_files(self) -> list[tuple[int, str, bool]]:
        """Those of its descriptors that are of files or block devices.

        Each with its path, and whether the file was made for it.
        """
        files = self.description.get("files", [])
        return [(fd, file["path"], file["made"]) for fd, file in zip(self.fds, files, strict=False)]

    def to_json(self) -> dict[str, Any]:
        """What ``device_files.py`` reads."""
        return self._asdict()


def names_of(name: str) -> Iterator[str]:
    """What its descriptors are called: ``tier:file0``, ``tier:file0/1``, ..."""
    for number in range(MAX_FDS):
        yield f"{name}/{number}" if number else name


class Attached:
    """Those that there are by now; changed by the supervisor's main thread, read by any."""

    def __init__(self, now: Iterable[Attachment] = ()) -> None:
        self.now = tuple(now)

    def find(self, name: str) -> Attachment | None:
        """The one called ``name``."""
        return next((one for one in self.now if one.name == name), None)

    def add(self, attachment: Attachment) -> None:
        """From now on each worker has it."""
        self.now = (*self.now, attachment)

    def remove(self, attachment: Attachment) -> None:
        """From now on none has it."""
        self.now = tuple(one for one in self.now if one != attachment)

    def files(self) -> dict[str, int]:
        """All descriptors, by name."""
        return {name: fd for one in self.now for name, fd in one.files.items()}

    def are_in(self, pid: int, *, alone: bool = False) -> bool:
        """Whether a process has these, the same files under the same numbers; ``alone``: no more.

        One that has ended has none.
        """
        theirs, ours = f"/proc/{pid}/fd", {*self.files().values()}
        try:
            found = {fd for fd in map(int, os.listdir(theirs)) if FIRST_FD <= fd <= LAST_FD}
            same = (os.path.samestat(os.stat(f"{theirs}/{fd}"), os.fstat(fd)) for fd in ours)
            return ours <= found and (found == ours or not alone) and all(same)
        except OSError:
            return False


def moved(fds: Iterable[int]) -> tuple[int, ...]:
    """``fds`` under numbers of their own; those given are closed.  Raises `HostError`."""
    taken: list[int] = []
    try:
        for fd in fds:
            taken += [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FD)]
    except OSError as exc:
        close(taken)
        raise HostError(f"no more files can be held: {exc.strerror}") from exc
    finally:
        close(fds)
    if taken and taken[-1] > LAST_FD:
        close(taken)
        raise HostError(f"more than {LAST_FD - FIRST_FD + 1} files can't be held")
    return tuple(taken)


def put(fds: Iterable[int], numbers: Iterable[int]) -> None:
    """Have ``fds`` under ``numbers``, close-on-exec.  Raises `OSError`."""
    for fd, number in zip(fds, numbers, strict=True):
        if fd == number:
            os.set_inheritable(fd, False)
        else:
            os.dup2(fd, number, inheritable=False)
            os.close(fd)


def receive(ours: socket.socket, most_bytes: int) -> tuple[bytes, list[int]]:
    """One packet, and the descriptors in it, which no child inherits by accident.

    Raises `OSError`.  `socket.recv_fds` of Python 3.11 does not pass flags on.
    """
    fds = array("i")
    room = socket.CMSG_LEN(MAX_FDS * fds.itemsize)
    said, ancillary, _, _ = ours.recvmsg(most_bytes, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return said, fds.tolist()


def close(fds: Iterable[int]) -> None:
    """All of them."""
    for fd in fds:
        os.close(fd)
