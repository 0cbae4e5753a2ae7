"""The few system calls that Python's standard library does not offer.

Thin: one function a call, `OSError` with errno and the call's name on failure,
no policy.  Constants are those of the Linux UAPI headers.  The lowest layer:
imported by the store (hole punching) and by its neighbours (locking, mounting).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading

_libc = ctypes.CDLL(None, use_errno=True)

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_ZERO_RANGE = 0x10
FALLOC_FL_WRITE_ZEROES = 0x80

MCL_CURRENT = 1
MCL_FUTURE = 2
MCL_ONFAULT = 4

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MNT_DETACH = 2

PR_SET_DUMPABLE = 4
PR_SET_IO_FLUSHER = 57
PR_GET_IO_FLUSHER = 58

MADV_POPULATE_WRITE = 23

_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.mlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.malloc.argtypes = (ctypes.c_size_t,)
_libc.malloc.restype = ctypes.c_void_p
_libc.free.argtypes = (ctypes.c_void_p,)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.mlockall.argtypes = (ctypes.c_int,)
_libc.munlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.prctl.argtypes = (ctypes.c_int,) + (ctypes.c_ulong,) * 4
_libc.mount.argtypes = (ctypes.c_char_p,) * 3 + (ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.syscall.restype = ctypes.c_long


def checked(result: int, call: str) -> int:
    """``result`` of a system call; raises `OSError` with errno and the ``call``'s name."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
    return result


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2); offset and length in bytes."""
    checked(_libc.fallocate(fd, mode, offset, length), "fallocate")


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Give the bytes back to the system; they read as zeros afterwards."""
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)


def mlockall(flags: int) -> None:
    """mlockall(2) with the MCL_* flags."""
    checked(_libc.mlockall(flags), "mlockall")


def munlock(memory: mmap.mmap) -> None:
    """munlock(2) of a whole writable mapping."""
    first = ctypes.c_char.from_buffer(memory)
    checked(_libc.munlock(ctypes.byref(first), len(memory)), "munlock")


def populate_write(address: int, length: int) -> None:
    """MADV_POPULATE_WRITE (Linux 5.14): make and map the pages of a range, as writing them would.

    Without the interpreter lock, and without the lock of the file's inode that `fallocate`
    takes.  So a wait for memory here keeps no other thread from giving some back.
    """
    checked(_libc.madvise(address, length, MADV_POPULATE_WRITE), "madvise(POPULATE_WRITE)")


def make_resident(memory: mmap.mmap) -> None:
    """Make and map all pages of a shared, writable mapping; their content stays.

    MAP_POPULATE passes over a mapping that is locked on fault, as all are after MCL_ONFAULT.
    """
    try:
        populate_write(ctypes.addressof(ctypes.c_char.from_buffer(memory)), len(memory))
    except OSError:  # before Linux 5.14
        for at in range(0, len(memory), mmap.PAGESIZE):
            memory[at]


def mlock(address: int, length: int) -> None:
    """mlock(2): resident now, and for as long as it is mapped."""
    checked(_libc.mlock(address, length), "mlock")


def set_real_time(on: bool) -> None:
    """This thread at the lowest real-time priority (SCHED_RR 1), or not, where a limit permits it.

    Such a thread may take from what the kernel keeps back (ALLOC_MIN_RESERVE, mm/page_alloc.c).
    """
    policy, priority = (os.SCHED_RR, 1) if on else (os.SCHED_OTHER, 0)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(threading.get_native_id(), policy, os.sched_param(priority))


_ATTRIBUTES_BYTES = 128  # pthread_attr_t: 56 with glibc and with musl
_libc.pthread_self.restype = ctypes.c_void_p
_libc.pthread_getattr_np.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
_libc.pthread_attr_getstack.argtypes = (ctypes.c_void_p,) * 3
_libc.pthread_attr_destroy.argtypes = (ctypes.c_void_p,)


def lock_stack(length: int) -> None:
    """Have the upper ``length`` bytes of this thread's stack resident, where a limit permits it.

    A thread that touches its stack for the first time does so with the interpreter lock held.
    While it waits for that page no other thread goes on, nor one that could make room for it.
    """
    attributes = (ctypes.c_char * _ATTRIBUTES_BYTES)()
    if _libc.pthread_getattr_np(_libc.pthread_self(), attributes):
        return
    lowest, size = ctypes.c_void_p(), ctypes.c_size_t()
    _libc.pthread_attr_getstack(attributes, ctypes.byref(lowest), ctypes.byref(size))
    _libc.pthread_attr_destroy(attributes)
    locked = min(length, size.value)
    _libc.mlock((lowest.value or 0) + size.value - locked, locked)


def set_io_flusher() -> None:
    """PR_SET_IO_FLUSHER: allocations of this thread and its children may not recurse into I/O.

    Needs CAP_SYS_RESOURCE, and explicit zeros in the unused arguments.
    """
    checked(_libc.prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0), "prctl(PR_SET_IO_FLUSHER)")


def set_not_dumpable() -> None:
    """PR_SET_DUMPABLE 0: no core dump, no debugger; after each exec it has to be set again."""
    checked(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def clear_io_flusher() -> None:
    """Undo `set_io_flusher` for this thread alone; it must never be waited for."""
    checked(_libc.prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0), "prctl(PR_SET_IO_FLUSHER)")


def get_io_flusher() -> bool:
    """Read the IO_FLUSHER state of this task back."""
    return checked(_libc.prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0), "prctl(PR_GET_IO_FLUSHER)") == 1


def mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    """mount(2)."""
    encoded = (source.encode(), os.fsencode(target), fstype.encode())
    checked(_libc.mount(*encoded, flags, data.encode()), f"mount {fstype} on {target}")


def umount(target: str, *, lazy: bool = False) -> None:
    """umount2(2), with MNT_DETACH where ``lazy``."""
    checked(_libc.umount2(os.fsencode(target), MNT_DETACH if lazy else 0), f"umount {target}")


# -- the heap: taken once, and never given back ----------------------------------------------

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_HEAP_STEP = 1 << 20  # below the threshold
_NEVER = (1 << 31) - 1
# Twice the largest reply.  What is larger is the training of a dictionary, which gives it back.
_MMAP_THRESHOLD = 2 << 20


def keep_heap() -> None:
    """Have malloc take no memory by mmap(2) for what requests need, and give none back (glibc)."""
    try:
        mallopt = _libc.mallopt
    except AttributeError:  # another libc
        return
    mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _NEVER)


def extend_heap(size_bytes: int) -> None:
    """Have so much address space at the top of malloc's heap, untouched."""
    pieces = []
    while size_bytes > 0 and (block := _libc.malloc(min(size_bytes, _HEAP_STEP))):
        pieces.append(block)
        size_bytes -= _HEAP_STEP
    for block in pieces:
        _libc.free(block)


_PAGE_BYTES = 4096
_MALLOC_WORDS_BYTES = 64  # what malloc notes at both ends of a block that is free
_LARGEST_THRESHOLD = 32 << 20  # that malloc takes
_PROT_READ_WRITE = 3
_MAP_SHARED_FIXED = 0x11
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t) + (ctypes.c_int,) * 3 + (ctypes.c_long,)
_libc.mmap.restype = ctypes.c_void_p


def have_large_blocks(on: bool) -> None:
    """Have malloc take blocks of up to 32 MiB from its heap as well, or not any more (glibc)."""
    if mallopt := getattr(_libc, "mallopt", None):
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD if on else _MMAP_THRESHOLD)


def reserve_heap(size_bytes: int) -> int:
    """One block of malloc's heap for `back_heap`, 0 where there is none.

    malloc's own words lie in the pages at its ends, which are touched here.
    """
    if not hasattr(_libc, "mallopt"):  # another libc
        return 0
    have_large_blocks(True)
    block = _libc.malloc(size_bytes + 2 * _PAGE_BYTES)
    have_large_blocks(False)
    return block or 0


def back_heap(block: int, size_bytes: int, fd: int) -> int:
    """Have the start of the file ``fd`` as the memory of ``block``; returns where it ends.

    By mmap(2), shared, MAP_FIXED.  The block is ours, so no other thread can have it meanwhile;
    `free_heap` gives it to malloc, which takes no memory.
    """
    start = -(-(block + _MALLOC_WORDS_BYTES) // _PAGE_BYTES) * _PAGE_BYTES
    if _libc.mmap(start, size_bytes, _PROT_READ_WRITE, _MAP_SHARED_FIXED, fd, 0) != start:
        code = ctypes.get_errno()
        raise OSError(code, f"mmap: {os.strerror(code)}")
    return start + size_bytes


def free_heap(block: int) -> None:
    """Give ``block`` of `reserve_heap` back to malloc."""
    _libc.free(block)


_MADV_DONTNEED_LOCKED = 24
_with_gil = ctypes.PyDLL(None, use_errno=True)
_with_gil.madvise.argtypes = _libc.madvise.argtypes


def drop_pages(address: int, length: int) -> None:
    """MADV_DONTNEED_LOCKED (Linux 5.18), with the interpreter lock held all the time."""
    checked(_with_gil.madvise(address, length, _MADV_DONTNEED_LOCKED), "madvise(DONTNEED_LOCKED)")


class _MallocInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost",
    )]  # fmt: skip


def heap_top() -> tuple[int, int]:
    """Address of the free top of malloc's heap, and of its end; zeros before glibc 2.33."""
    try:
        mallinfo = _libc.mallinfo2
    except AttributeError:
        return 0, 0
    mallinfo.restype = _MallocInfo
    _libc.sbrk.restype = ctypes.c_void_p
    end = _libc.sbrk(0)
    return end - int(mallinfo().keepcost), end


# -- how much memory is free ---------------------------------------------------------------------


class _SysInfo(ctypes.Structure):
    _fields_ = [
        ("uptime", ctypes.c_long),
        ("loads", ctypes.c_ulong * 3),
        ("totalram", ctypes.c_ulong),
        ("freeram", ctypes.c_ulong),
        ("others", ctypes.c_ulong * 3),
        ("freeswap", ctypes.c_ulong),
        ("rest", ctypes.c_ulong * 4),
        ("padding", ctypes.c_char * 32),
    ]


_sysinfo = _SysInfo()


def free_bytes() -> int:
    """Unused memory of the machine (sysinfo(2)); makes no file, takes no memory."""
    _libc.sysinfo(ctypes.byref(_sysinfo))
    return int(_sysinfo.freeram)


_swapinfo = _SysInfo()  # another thread's


def free_swap_bytes() -> int:
    """Unused swap of the machine, as `free_bytes`."""
    _libc.sysinfo(ctypes.byref(_swapinfo))
    return int(_swapinfo.freeswap)


def memory_bytes() -> int:
    """All memory of the machine, as `free_bytes`."""
    _libc.sysinfo(ctypes.byref(_swapinfo))
    return int(_swapinfo.totalram)


_SYS_PIDFD_GETFD = 438  # the same number on every architecture
_libc.syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_uint)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """pidfd_getfd(2), Linux 5.6: our own descriptor for what another process has as ``fd``."""
    return checked(_libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0), "pidfd_getfd")


_FILE_ACTIONS_BYTES = 256  # posix_spawn_file_actions_t: 80 with glibc and with musl


def spawn(
    path: str, arguments: list[str], environment: dict[str, str], fds: list[int], output: int
) -> int:
    """posix_spawn(3) with the interpreter lock released: it may wait for memory.

    The child has ``fds`` under the same numbers, whether or not they are inheritable here, and
    ``output`` as its standard output and error.
    """
    words = [os.fsencode(word) for word in arguments]
    pairs = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
    argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    envp = (ctypes.c_char_p * (len(pairs) + 1))(*pairs, None)
    actions = (ctypes.c_char * _FILE_ACTIONS_BYTES)()
    _spawned(_libc.posix_spawn_file_actions_init(actions))
    try:
        for fd in fds:  # onto itself: clears close-on-exec in the child
            _spawned(_libc.posix_spawn_file_actions_adddup2(actions, fd, fd))
        for fd in (1, 2):
            _spawned(_libc.posix_spawn_file_actions_adddup2(actions, output, fd))
        pid = ctypes.c_int()
        target = os.fsencode(path)
        _spawned(_libc.posix_spawn(ctypes.byref(pid), target, actions, None, argv, envp))
        return pid.value
    finally:
        _libc.posix_spawn_file_actions_destroy(actions)


def _spawned(code: int) -> None:
    """The family returns its error instead of setting errno."""
    if code:
        raise OSError(code, f"posix_spawn: {os.strerror(code)}")


# -- System V shared memory: unevictable memory where tmpfs has no ``noswap`` (before 6.4) ----

_IPC_CREAT = 0o1000
_IPC_RMID = 0
_SHM_LOCK = 11
_SHM_NORESERVE = 0o10000

_libc.shmget.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_int)
_libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_libc.shmat.restype = ctypes.c_void_p
_libc.shmctl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


def locked_shm(size_bytes: int) -> int:
    """A new, zeroed, SHM_LOCKed segment; returns a descriptor of the file behind it.

    The segment is attached to this process (untouched) and marked for removal, so its
    memory lives, and stays unevictable, exactly as long as this process.  The descriptor
    comes from ``/proc/self/map_files`` and needs CAP_SYS_ADMIN.
    """
    segment = checked(_libc.shmget(0, size_bytes, _IPC_CREAT | _SHM_NORESERVE | 0o600), "shmget")
    try:
        address = _libc.shmat(segment, None, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "shmat failed")
        checked(_libc.shmctl(segment, _SHM_LOCK, None), "shmctl(SHM_LOCK)")
    finally:
        checked(_libc.shmctl(segment, _IPC_RMID, None), "shmctl(IPC_RMID)")
    page_end = address + -(-size_bytes // 4096) * 4096
    return os.open(f"/proc/self/map_files/{address:x}-{page_end:x}", os.O_RDWR | os.O_CLOEXEC)
