"""A mount at no place: a descriptor of its root, which goes with the descriptors of its files.

No path leads there, and no mount namespace has it.  So nothing else can pin it: a container that is
started meanwhile gets a copy of every mount that has a place.  Linux 5.2.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

from fuseswap.linux.syscalls import checked

NOSUID_NODEV_NOEXEC = 0x2 | 0x4 | 0x8  # MOUNT_ATTR_*
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_CLOEXEC = 1
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def open_detached(fstype: str, options: Mapping[str, str | None]) -> int:
    """A descriptor of the root of a new one; an option without a value is None.

    Raises `OSError`, also for an option that the kernel does not know.
    """
    context = _call(_SYS_FSOPEN, fstype.encode(), _CLOEXEC)
    try:
        for name, value in options.items():
            kind = _SET_FLAG if value is None else _SET_STRING
            text = None if value is None else value.encode()
            _call(_SYS_FSCONFIG, context, kind, name.encode(), text, 0)
        _call(_SYS_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_SYS_FSMOUNT, context, _CLOEXEC, NOSUID_NODEV_NOEXEC)
    finally:
        os.close(context)


def _call(number: int, *arguments: int | bytes | None) -> int:
    return checked(_libc.syscall(number, *arguments), f"system call {number} (fsopen)")
