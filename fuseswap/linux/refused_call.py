"""Which system call a process was ended for, left where another process can read it.

Nothing else tells.  A parent learns of SIGSYS, the log of a line in Python, and libc's name for a
call may stand for several.  The number comes with the signal.  To ask Python for it there would
need the interpreter, in the middle of what was interrupted.  So the handler is a few instructions,
which write the number plus 1 into shared memory.  Then they go on to the handler before them.

On another processor than x86-64, and where code can't be mapped, the number stays unknown.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import struct
import sys

from fuseswap.errors import HostError
from fuseswap.linux.command import run

BYTES = 4
_NUMBER = struct.Struct("<I")
_MOST = 1 << 20  # more is no number of a call
_SIGINFO = 4
_FAILED = ctypes.c_void_p(-1).value
_PROT_READ, _PROT_EXEC, _PRIVATE = 1, 4, 2
LIBRARY = "libseccomp.so.2"
_RESOLVE_TIMEOUT_S = 30.0
_RESOLVE = (
    f"import ctypes.util; ctypes.util.find_library = {{'seccomp': '{LIBRARY}'}}.get;"
    "import sys, pyseccomp as s; "
    "print(s.resolve_syscall(s.Arch.NATIVE, int(sys.argv[1])).decode())"
)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip


class _Action(ctypes.Structure):
    """As libc has it on x86-64: struct sigaction."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_char * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def note_at(address: int) -> bool:
    """From now on the handler of SIGSYS that is there is told after the note; False: there is none.

    ``address``: of `BYTES` that stay mapped.
    """
    if os.uname().machine != "x86_64":
        return False
    before = _Action()
    if _libc.sigaction(signal.SIGSYS, None, ctypes.byref(before)) or not before.handler:
        return False
    code = _mapped(_instructions(address, before.handler))
    if code is None:
        return False
    after = _Action.from_buffer_copy(before)
    after.handler, after.flags = code, before.flags | _SIGINFO
    return not _libc.sigaction(signal.SIGSYS, ctypes.byref(after), None)


def _instructions(address: int, then: int) -> bytes:
    """``handler(number, information, context)``."""
    note = (
        b"\x8b\x46\x18"  # mov eax, [rsi+24]: the number of the call
        + b"\xff\xc0"  # inc eax
        + b"\x48\xb9" + struct.pack("<Q", address)  # mov rcx, address
        + b"\x89\x01"  # mov [rcx], eax
    )  # fmt: skip
    return (
        b"\xf3\x0f\x1e\xfa"  # endbr64
        + b"\x83\x7e\x08\x01"  # cmp dword [rsi+8], SYS_SECCOMP: not a signal that was sent
        + b"\x75" + bytes([len(note)])  # jne: past the note
        + note
        + b"\x48\xb8" + struct.pack("<Q", then)  # mov rax, handler
        + b"\xff\xe0"  # jmp rax
    )  # fmt: skip


def _mapped(code: bytes) -> int | None:
    """Its address.  From a file, since memory that was written to may never be run (systemd)."""
    try:
        fd = os.memfd_create("fuseswap", os.MFD_CLOEXEC)
    except OSError:
        return None
    try:
        os.write(fd, code)
        found = _libc.mmap(None, mmap.PAGESIZE, _PROT_READ | _PROT_EXEC, _PRIVATE, fd, 0)
    finally:
        os.close(fd)
    return None if found in (None, _FAILED) else int(found)


def taken(memory: mmap.mmap, at: int) -> int | None:
    """The number that was noted since the last time; None: there was none."""
    (found,) = _NUMBER.unpack_from(memory, at)
    _NUMBER.pack_into(memory, at, 0)
    return found - 1 if 0 < found < _MOST else None


def name_of(number: int | None) -> str:
    """Asks libseccomp, in another process; where it has no answer there is the number."""
    if number is None:
        return "its number is not known"
    with contextlib.suppress(HostError, OSError):
        command = (sys.executable, "-I", "-c", _RESOLVE, str(number))
        if name := run(*command, timeout_s=_RESOLVE_TIMEOUT_S).strip():
            return name
    return f"number {number}"
