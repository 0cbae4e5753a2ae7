"""Resource limits (getrlimit(2)) of the processes that serve a device.

`up` gets them from its caller, and supervisor and worker from `up`.  A limit that is
too low shows late, as a worker that dies again and again, or as memory of a worse kind.  So
`settle` raises what may be raised, before anything is made, and refuses the rest in one line.

Raising a hard limit needs CAP_SYS_RESOURCE, which many containers withhold.  The stack of a
main thread follows the limit at exec, so it is set in the process that starts the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fuseswap.daemon.attachment import LAST_FD
from fuseswap.errors import HostError
from fuseswap.sizes import format_size
from fuseswap.units import MIB

UNLIMITED = resource.RLIM_INFINITY
# Beside the regions: interpreter, libraries, thread stacks, heap (mapped, not resident).
_OWN_ADDRESS_SPACE_BYTES = 768 * MIB
_OWN_DATA_BYTES = 384 * MIB
_STACK_BYTES = 8 * MIB
_CAP_IPC_LOCK = 14


@dataclass(frozen=True, slots=True)
class Need:
    """One limit: ``wanted`` is set where permitted; below ``least`` the device is refused."""

    number: int
    option: str  # of ulimit
    what: str
    wanted: int
    least: int
    is_size: bool = False


def needs(region_bytes: Mapping[str, int], backing_bytes: int) -> tuple[Need, ...]:
    """What a device with these regions and this backing file asks for."""
    mapped = sum(region_bytes.values())
    largest = max([*region_bytes.values(), backing_bytes])
    space = mapped + _OWN_ADDRESS_SPACE_BYTES
    lockable = 0 if os.geteuid() != 0 or _may_lock() else space  # an ordinary user locks nothing
    never = UNLIMITED
    return (
        Need(resource.RLIMIT_STACK, "-s", "stack size", _STACK_BYTES, MIB, is_size=True),
        Need(resource.RLIMIT_NOFILE, "-n", "open files", 1024, LAST_FD + 1),
        Need(resource.RLIMIT_AS, "-v", "address space", never, space, is_size=True),
        Need(resource.RLIMIT_DATA, "-d", "data size", never, _OWN_DATA_BYTES, is_size=True),
        Need(resource.RLIMIT_FSIZE, "-f", "file size", never, largest, is_size=True),
        Need(resource.RLIMIT_MEMLOCK, "-l", "locked memory", never, lockable, is_size=True),
        Need(resource.RLIMIT_CPU, "-t", "processor time", never, never),
        Need(resource.RLIMIT_RTTIME, "-R", "real-time processor time", never, never),
        Need(resource.RLIMIT_RTPRIO, "-r", "real-time priority", 99, 0),
        Need(resource.RLIMIT_NPROC, "-u", "processes", never, 0),
    )


def settle(wanted: tuple[Need, ...]) -> None:
    """Give this process, and so its children, the limits in need.

    Raises `HostError`, having changed nothing, for the first limit that is too low and may
    not be raised.
    """
    plans = [(need, *_plan(need)) for need in wanted]
    for need, soft, _ in plans:
        if _below(soft, need.least):
            raise HostError(_refusal(need, soft))
    for need, soft, hard in plans:
        resource.setrlimit(need.number, (soft, hard))


def _plan(need: Need) -> tuple[int, int]:
    """The best ``(soft, hard)`` that is permitted; the soft stack limit may also get lower."""
    soft, hard = resource.getrlimit(need.number)
    if _below(hard, need.wanted) and _may_raise(need.number, need.wanted):
        hard = need.wanted
    reachable = need.wanted if _below(need.wanted, hard) else hard
    if need.number == resource.RLIMIT_STACK or _below(soft, reachable):
        soft = reachable
    return soft, hard


def _may_raise(number: int, wanted: int) -> bool:
    """Whether the hard limit could be raised to ``wanted``; it is left as it was."""
    before = resource.getrlimit(number)
    try:
        resource.setrlimit(number, (before[0], wanted))
    except (OSError, ValueError):
        return False
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(number, before)
    return True


def _below(value: int, other: int) -> bool:
    """``value < other``, where `UNLIMITED` is the largest of all."""
    if value == UNLIMITED or other == UNLIMITED:
        return value != UNLIMITED
    return value < other


def _refusal(need: Need, found: int) -> str:
    least = "unlimited" if need.least == UNLIMITED else _show(need, need.least)
    return (
        f"the limit of {need.what} is {_show(need, found)}, needed: {least}, and it may not be "
        f"raised from here; raise it first (ulimit {need.option}, or Limit*= of the service)"
    )


def _show(need: Need, value: int) -> str:
    return format_size(value) if need.is_size else str(value)


def _may_lock() -> bool:
    """Whether mlock is free of its limit (CAP_IPC_LOCK)."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(effective >> _CAP_IPC_LOCK & 1)
