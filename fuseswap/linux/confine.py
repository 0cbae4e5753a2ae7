"""What a worker gives up once it is prepared: capabilities, and most system calls.

Capabilities go before there are threads, since each has its own.  Kept are IPC_LOCK, with which
memory goes on being locked, and SYS_NICE, for the moments at real-time priority.

The filter (seccomp) comes last, and covers all threads.  A call that it does not have
(``allowed_calls.py``) ends the process with SIGSYS.  The log says where it was made, unless libc
had blocked all signals there.  Another worker takes over.  A short-lived child makes the filter
with libseccomp, whose binding would stay in locked memory.  The binding is told the library's name:
to find it, it would start ldconfig, and a compiler where there is none.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import faulthandler
import logging
import os
import signal
import struct
from typing import NamedTuple

from fuseswap.errors import HostError
from fuseswap.linux import refused_call
from fuseswap.linux.allowed_calls import ALLOWED

log = logging.getLogger(__name__)

_CAP_IPC_LOCK = 14
_CAP_SYS_NICE = 23
KEPT = 1 << _CAP_IPC_LOCK | 1 << _CAP_SYS_NICE
_CAP_VERSION_3 = 0x20080522
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_TSYNC, _SPEC_ALLOW = 1, 4  # the latter: no slower processor, as Linux before 5.16 has it
_CLONE_THREAD = 0x10000
_MOST_BYTES = 64 << 10
_INSTRUCTION_BYTES = 8

_libc = ctypes.CDLL(None, use_errno=True)


class Filter(NamedTuple):
    """``program``: of Berkeley packet filter; ``call``: number of seccomp(2) here."""

    call: int
    program: bytes


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def drop_capabilities() -> None:
    """Keep `KEPT`, as far as this thread has them.  Raises `OSError`."""
    header = struct.pack("@Ii", _CAP_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    _checked(_libc.capget(header, data), "capget")
    effective, permitted, _, more, more_permitted, _ = struct.unpack("@6I", data.raw)
    del more, more_permitted  # above 31: none of ours
    new = struct.pack("@6I", effective & KEPT, permitted & KEPT, 0, 0, 0, 0)
    _checked(_libc.capset(header, new), "capset")


def make_filter() -> Filter:
    """Made by a child, before there are threads.  Raises `HostError`."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(ours)
            _write_filter(theirs)
        except BaseException as exc:
            os.write(2, f"{exc}\n".encode(errors="replace"))
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as file:
        said = file.read(_MOST_BYTES)
    os.waitpid(child, 0)
    if len(said) <= 4:
        raise HostError("no filter of system calls could be made; is libseccomp2 installed?")
    return Filter(int.from_bytes(said[:4], "little"), said[4:])


def try_filter() -> Filter | None:
    """None where none can be made: a swap without it is better than none."""
    try:
        return make_filter()
    except (HostError, OSError) as exc:
        log.error("system calls are not filtered: %s", exc)
        return None


def _write_filter(fd: int) -> None:
    ctypes.util.find_library = {"seccomp": refused_call.LIBRARY}.get  # type: ignore[assignment]
    import pyseccomp  # in the child alone

    made = pyseccomp.SyscallFilter(pyseccomp.TRAP)
    for names in ALLOWED.values():
        for name in names:
            if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) >= 0:
                made.add_rule(pyseccomp.ALLOW, name)
    # A thread, and no process.  What clone3 is asked for can't be looked at: libc tries clone.
    a_thread = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD)
    made.add_rule(pyseccomp.ALLOW, "clone", a_thread)
    made.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    call = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, "seccomp")
    with open(fd, "wb") as file:
        file.write(call.to_bytes(4, "little"))
        file.flush()
        made.export_bpf(file)


def confine(wanted: Filter, note_address: int | None = None) -> None:
    """All threads of this process, for good.  Raises `OSError`.

    The number of a call too many is noted at ``note_address`` (``refused_call.py``).
    """
    faulthandler.register(signal.SIGSYS, file=2, all_threads=False, chain=True)
    if note_address is not None:
        refused_call.note_at(note_address)
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    length = len(wanted.program) // _INSTRUCTION_BYTES
    program = _Program(length, wanted.program)
    flags = _TSYNC | _SPEC_ALLOW
    found = _libc.syscall(
        ctypes.c_long(wanted.call), _SET_MODE_FILTER, flags, ctypes.byref(program)
    )
    _checked(found, "seccomp")


def _checked(result: int, call: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
