"""Memory of raw backends, as commands make it while a device is up (``frontswap/raw_memory.py``).

It is an attachment, so the supervisor holds it and it outlives the worker.  A file that is not DAX
is refused.  Its pages would be in the page cache, dirty, and wait for a disk when memory is short.
"""

from __future__ import annotations

import json
import mmap
import os

from fuseswap.daemon import attachment, control_socket
from fuseswap.daemon.attachment import ANSWER_TIMEOUT_S, Attachment
from fuseswap.daemon.device_files import BACKEND_PREFIX
from fuseswap.daemon.live_tiers import require_supervisor
from fuseswap.daemon.petitions import ATTACH, DETACH
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.frontswap.raw_size import file_bytes
from fuseswap.linux import shared_memory, trusted_file
from fuseswap.sizes import format_size
from fuseswap.units import MIB, PAGE_SHIFT

_TIMEOUT_S = 3 * ANSWER_TIMEOUT_S
_MAP_SHARED_VALIDATE = 0x03
_MAP_SYNC = 0x80000  # granted for DAX alone


def attach(runtime: Runtime, name: str, size_bytes: int, path: str | None = None) -> None:
    """Hand memory for a backend ``name`` to the device.  Raises `InvalidArgument`, `HostError`.

    ``path``: a file on persistent memory.
    """
    require_supervisor(runtime)
    if size_bytes < MIB:
        raise InvalidArgument(f"a backend has at least {format_size(MIB)}")
    length = file_bytes(size_bytes >> PAGE_SHIFT)
    fd = _open_dax(path, length) if path else _memory(length)
    one = Attachment(BACKEND_PREFIX + name, (fd,), {"size_bytes": length, "path": path})
    try:
        request = f"{ATTACH} {json.dumps(one.to_json())}"
        control_socket.ask(runtime.control_path, request, _TIMEOUT_S, one.fds)
    finally:
        attachment.close(one.fds)


def detach(runtime: Runtime, name: str) -> None:
    """Its backend has gone: so does the memory, where it came by `attach`.  Raises `HostError`."""
    wanted = BACKEND_PREFIX + name
    if any(one.name == wanted for one in runtime.config().attachments):
        control_socket.ask(runtime.control_path, f"{DETACH} {wanted}", _TIMEOUT_S)


def _memory(length: int) -> int:
    """Unevictable, and not taken yet."""
    kind = "tmpfs" if os.geteuid() == 0 else "memfd"
    try:
        return shared_memory.create_files({"backend": length}, kind)[1]["backend"]
    except HostError:  # a kernel before 6.4: the worker locks what it maps
        return shared_memory.create_files({"backend": length}, "memfd")[1]["backend"]


def _open_dax(path: str, length: int) -> int:
    try:
        fd = trusted_file.open_file(path, os.O_RDWR)
    except OSError as exc:
        raise HostError(f"cannot open {path}: {exc.strerror}") from exc
    try:
        trusted_file.make_private(fd, path)
        size = os.lseek(fd, 0, os.SEEK_END)
        if size < length:
            raise InvalidArgument(f"{path} has {size} bytes, {length} are needed")
        mmap.mmap(fd, mmap.PAGESIZE, _MAP_SHARED_VALIDATE | _MAP_SYNC).close()
    except OSError:
        os.close(fd)
        raise HostError(f"{path} is no file on persistent memory (DAX)") from None
    except (HostError, InvalidArgument):
        os.close(fd)
        raise
    return fd
