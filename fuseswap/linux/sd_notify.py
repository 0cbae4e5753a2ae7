"""systemd's side of a service: readiness, and descriptors it keeps for the next start.

The protocol of sd_notify(3) and sd_listen_fds(3), without its library.  Only what is sent
before a swap is served waits for systemd: later it may itself be waiting for a page.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence

SOCKET = "NOTIFY_SOCKET"
_FIRST_FD = 3
_STORE_TIMEOUT_S = 5.0  # its queue may hold as few as ten messages


def is_asked_for() -> bool:
    """Whether a service manager is there to tell."""
    return SOCKET in os.environ


def notify(*fields: str, fds: Sequence[int] = (), timeout_s: float = 0.0) -> None:
    """Send ``NAME=VALUE`` fields, with descriptors.  Raises `OSError` where that failed."""
    path = os.environ.get(SOCKET)
    if path is None:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.connect(address)
        ours.settimeout(timeout_s)
        socket.send_fds(ours, ["\n".join(fields).encode()], fds)


def store(files: dict[str, int]) -> None:
    """Have systemd keep ``files``, in place of former ones of these names.  Raises `OSError`."""
    forget(files)
    for name, fd in files.items():
        notify("FDSTORE=1", f"FDNAME={_told(name)}", fds=(fd,), timeout_s=_STORE_TIMEOUT_S)


def forget(names: Iterable[str]) -> None:
    """Have systemd close what it keeps under these names.  Raises `OSError`."""
    for name in names:
        notify("FDSTOREREMOVE=1", f"FDNAME={_told(name)}", timeout_s=_STORE_TIMEOUT_S)


def _told(name: str) -> str:
    """systemd takes no colons: they separate the names it gives back."""
    return name.replace(":", ".")


def stored() -> dict[str, int]:
    """What systemd kept for this process, by name; its children do not get it."""
    mine = os.environ.get("LISTEN_PID") == str(os.getpid())
    count = int(os.environ.get("LISTEN_FDS", "0")) if mine else 0
    told = os.environ.get("LISTEN_FDNAMES", "").split(":")
    names = [name.replace(".", ":") for name in told]
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(variable, None)
    fds = dict(zip(names, range(_FIRST_FD, _FIRST_FD + count), strict=False))
    for fd in fds.values():
        os.set_inheritable(fd, False)
    return fds
