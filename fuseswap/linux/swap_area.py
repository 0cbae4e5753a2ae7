"""Swap areas: make, switch on, switch off, and whether switching off would fit."""

from __future__ import annotations

from dataclasses import dataclass

from fuseswap.linux.command import run
from fuseswap.units import KIB, MIB

# Left free on top of what swapoff brings back, so that it does not end in the OOM killer: a
# sixteenth of memory, and no more than this.
_MARGIN_BYTES = 64 * MIB
_MARGIN_SHARE = 16


@dataclass(frozen=True, slots=True)
class SwapArea:
    """A line of /proc/swaps; sizes in bytes."""

    device: str
    size_bytes: int
    used_bytes: int
    priority: int


def areas() -> list[SwapArea]:
    """Every active swap area."""
    found = []
    with open("/proc/swaps", errors="surrogateescape") as swaps:
        next(swaps)
        for line in swaps:
            device, _, size, used, priority = line.rsplit(maxsplit=4)
            found.append(SwapArea(device.rstrip(), int(size) * KIB, int(used) * KIB, int(priority)))
    return found


def area_of(device: str) -> SwapArea | None:
    """The active area on ``device``, or None."""
    return next((area for area in areas() if area.device == device), None)


def make(device: str, label: str) -> None:
    """mkswap.  Raises `HostError`."""
    run("mkswap", "--label", label[:15], device)


def switch_on(device: str, priority: int | None) -> None:
    """swapon with discard of freed clusters.  Raises `HostError`."""
    chosen = [] if priority is None else ["--priority", str(priority)]
    run("swapon", "--discard", *chosen, device)


def switch_off(device: str) -> None:
    """swapoff; waits as long as it takes.  Raises `HostError`."""
    run("swapoff", device, timeout_s=None)


def shortage_bytes(*devices: str) -> int:
    """How much memory is missing to switch all ``devices`` off; 0 where it fits.

    Swapped pages must fit into available memory and the free part of the other areas.
    """
    used = sum(area.used_bytes for area in areas() if area.device in devices)
    if not used:
        return 0
    elsewhere = sum(a.size_bytes - a.used_bytes for a in areas() if a.device not in devices)
    margin = min(_MARGIN_BYTES, memory_bytes() // _MARGIN_SHARE)
    return max(0, used + margin - available_bytes() - elsewhere)


def available_bytes() -> int:
    """MemAvailable."""
    return meminfo_bytes("MemAvailable")


def memory_bytes() -> int:
    """MemTotal."""
    return meminfo_bytes("MemTotal")


def traffic_pages() -> dict[str, int]:
    """``pswpin`` and ``pswpout`` of /proc/vmstat: pages of all swap areas since the boot."""
    with open("/proc/vmstat") as vmstat:
        fields = dict(line.split() for line in vmstat)
    return {name: int(fields[name]) for name in ("pswpin", "pswpout") if name in fields}


def meminfo_bytes(field: str) -> int:
    """A field of /proc/meminfo in bytes; raises `KeyError`."""
    with open("/proc/meminfo") as meminfo:
        for line in meminfo:
            name, _, value = line.partition(":")
            if name == field:
                return int(value.split()[0]) * KIB
    raise KeyError(field)
