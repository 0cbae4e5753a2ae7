"""Switch the swap of a device off, where that can end, and make room for it where it must.

All swapped pages have to fit into memory.  On a small machine the device itself is in the way.
Where memory is missing, its standby and most of its reserve go first, some 30 MiB.  Both come back
where the swap stays on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fuseswap.daemon import control_socket
from fuseswap.daemon.petitions import END_STANDBY, KEEP_STANDBY
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.linux import swap_area
from fuseswap.linux.timed_file import read_file, write_file
from fuseswap.sizes import format_size

_LEAST_RESERVE = "4M"
_TIMEOUT_S = 30.0


def switch_off(runtime: Runtime, device: str) -> None:
    """``swapoff``.  Raises `HostError`, the swap still on, where it would not fit in memory."""
    if not swap_area.shortage_bytes(device):
        swap_area.switch_off(device)
        return
    with room_made(runtime):
        require_room(runtime.name, device)
        swap_area.switch_off(device)


def require_room(name: str, *devices: str) -> None:
    """Raise `HostError` where all that is swapped to the ``devices`` of ``name`` does not fit."""
    if missing := swap_area.shortage_bytes(*devices):
        raise HostError(
            f"swapping off {name} needs {format_size(missing)} more memory than there is; "
            "end some processes or add other swap first"
        )


@contextlib.contextmanager
def room_made(runtime: Runtime) -> Iterator[None]:
    """Without the standby and with the least reserve, for good unless there is an error.

    A device that can't do without them, or does not answer, keeps them.
    """
    parameter = Path(runtime.mountpoint()) / "params" / "reserve_bytes"
    reserve = None
    with contextlib.suppress(HostError, OSError):
        reserve = read_file(parameter).strip()
        write_file(parameter, _LEAST_RESERVE)
    _tell(runtime, END_STANDBY)
    try:
        yield
    except BaseException:
        with contextlib.suppress(HostError, OSError):
            if reserve:
                write_file(parameter, reserve)
        _tell(runtime, KEEP_STANDBY)
        raise


def _tell(runtime: Runtime, request: str) -> None:
    with contextlib.suppress(HostError):
        control_socket.ask(runtime.control_path, request, _TIMEOUT_S)
