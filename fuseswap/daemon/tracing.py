"""A trace of a device that is up begins and ends; called by commands, with its lock held.

The ring is an attachment (``trace_file.py``), so the supervisor holds it.
"""

from __future__ import annotations

import json
import os
from typing import Any

from fuseswap.daemon import control_socket
from fuseswap.daemon.attachment import ANSWER_TIMEOUT_S, TRACE, Attachment
from fuseswap.daemon.live_tiers import require_supervisor
from fuseswap.daemon.petitions import ATTACH, DETACH
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.frontswap.trace_ring import MAX_PAGES, ring_bytes
from fuseswap.linux import shared_memory
from fuseswap.units import PAGE_SHIFT

_TIMEOUT_S = 3 * ANSWER_TIMEOUT_S


def make_memory(capacity: int) -> int:
    """A file for a ring of ``capacity`` events, unevictable where that can be."""
    sizes = {"trace": ring_bytes(capacity)}
    kind = "tmpfs" if os.geteuid() == 0 else "memfd"
    try:
        return shared_memory.create_files(sizes, kind)[1]["trace"]
    except HostError:  # a kernel before 6.4: the worker locks what it maps
        return shared_memory.create_files(sizes, "memfd")[1]["trace"]


def check(runtime: Runtime) -> None:
    """Raises `HostError` or `InvalidArgument` where no trace can begin."""
    require_supervisor(runtime)
    if found := running(runtime):
        raise InvalidArgument(f"{runtime.name} is traced already, to {found.get('path')}")
    if runtime.config().size_bytes >> PAGE_SHIFT > MAX_PAGES:
        raise InvalidArgument("a trace has room for page numbers of 4 TiB, not for more")


def attach(runtime: Runtime, fd: int, path: str, recorder_pid: int) -> None:
    """Have the device write into the ring in ``fd``.  Raises `HostError`."""
    one = Attachment(TRACE, (fd,), {"path": path, "recorder_pid": recorder_pid})
    request = f"{ATTACH} {json.dumps(one.to_json())}"
    control_socket.ask(runtime.control_path, request, _TIMEOUT_S, one.fds)


def detach(runtime: Runtime) -> None:
    """The worker writes no more, and says so in the ring.  Raises `HostError`."""
    control_socket.ask(runtime.control_path, f"{DETACH} {TRACE}", _TIMEOUT_S)


def running(runtime: Runtime) -> dict[str, Any] | None:
    """``path`` and ``recorder_pid`` of the trace of the device; None: there is none."""
    found = (one for one in runtime.config().attachments if one.name == TRACE)
    return next((one.description for one in found), None)
