"""Linux AIO: a request goes to the device, and an eventfd tells when it is done.

Through `syscall`, since neither libc nor Python has it.  One context a worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import struct

from fuseswap.linux.syscalls import checked
from fuseswap.units import PAGE_SIZE

_AIO_NUMBERS = {  # io_setup, io_destroy, io_getevents, io_submit
    "x86_64": (206, 207, 208, 209),
    "aarch64": (0, 1, 4, 2),
    "riscv64": (0, 1, 4, 2),
}
AIO_READ, AIO_WRITE = 0, 1
RWF_NOWAIT = 0x08
IOCB_BYTES = 64
_IOCB = struct.Struct("<QIIHhIQQqQII")
_IOCB_FLAG_RESFD = 1
_EVENT = struct.Struct("<QQqq")


class AioContext:
    """One AIO context with room for ``slots`` requests (io_setup(2) and its family).

    Raises `OSError` (ENOSYS where this machine or container has none of it).
    """

    def __init__(self, slots: int, eventfd: int) -> None:
        numbers = _AIO_NUMBERS.get(os.uname().machine)
        if numbers is None:
            raise OSError(errno.ENOSYS, "AIO: the numbers of its calls are not known here")
        _, self._nr_destroy, self._nr_getevents, self._nr_submit = numbers
        self._syscall = ctypes.CDLL(None, use_errno=True)["syscall"]
        self._syscall.restype = ctypes.c_long
        context = ctypes.c_ulong(0)
        checked(self._syscall(numbers[0], slots, ctypes.byref(context)), "io_setup")
        self._context = context
        self._eventfd = eventfd
        self._slots = slots
        self._iocbs = (ctypes.c_char * (IOCB_BYTES * slots))()
        start = ctypes.addressof(self._iocbs)
        self._pointers = [(ctypes.c_ulong * 1)(start + IOCB_BYTES * slot) for slot in range(slots)]
        self._events = (ctypes.c_char * (_EVENT.size * slots))()
        ring = (ctypes.c_uint32 * 4).from_address(context.value)
        self._ring = memoryview(ring).cast("B").cast("I")  # id, size, head, tail

    def submit(
        self, slot: int, opcode: int, fd: int, memory: memoryview, at: int, flags: int = 0
    ) -> None:
        """Ask for all of ``memory`` (aligned, writable) at offset ``at``; ``slot`` must be free.

        ``flags``: `RWF_NOWAIT`.  It ends with EAGAIN then, where it would wait for the file system.
        """
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        where = (address, len(memory), at, 0, _IOCB_FLAG_RESFD, self._eventfd)
        _IOCB.pack_into(self._iocbs, slot * IOCB_BYTES, slot, 0, flags, opcode, 0, fd, *where)
        checked(self._syscall(self._nr_submit, self._context, 1, self._pointers[slot]), "io_submit")

    def ended(self) -> list[tuple[int, int]]:
        """``(slot, bytes or -errno)`` of the requests that have ended, without waiting."""
        ring = self._ring
        if ring[2] == ring[3]:  # nothing: seen in the memory shared with the kernel
            return []
        arguments = (0, self._slots, self._events, None)
        count = self._syscall(self._nr_getevents, self._context, *arguments)
        events = _EVENT.iter_unpack(memoryview(self._events)[: _EVENT.size * max(0, count)])
        return [(slot, result) for slot, _, result, _ in events]

    def close(self) -> None:
        """Wait for what is in flight, and give the context back."""
        self._ring.release()
        self._syscall(self._nr_destroy, self._context)


def write_zeros(fd: int, at: int) -> None:
    """Write a page of zeros over zeros, so that the kernel makes what a first write needs.

    For ext4 and xfs that is a workqueue with a thread (`sb_init_dio_done_wq`), until unmount.
    kthreadd needs memory for it, and may wait for swap.  Under memory pressure the thread that
    serves waited for that, in io_submit, until the watchdog killed its worker: in a guest three
    times.  So this comes before anything lies on the file.
    """
    eventfd = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        context = AioContext(1, eventfd)
    except OSError:  # threads do it, and wait for themselves alone
        os.close(eventfd)
        return
    try:
        with memoryview(mmap.mmap(-1, PAGE_SIZE)) as page, contextlib.suppress(OSError):
            context.submit(0, AIO_WRITE, fd, page, at)
            os.eventfd_read(eventfd)
    finally:
        context.close()
        os.close(eventfd)
