"""How much zswap holds, and what it did since the boot: for all swap areas together."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fuseswap.units import KIB

_DEBUG = Path("/sys/kernel/debug/zswap")
_MEMINFO = Path("/proc/meminfo")
_VMSTAT = Path("/proc/vmstat")


class ZswapUse(NamedTuple):
    """Bytes now, and pages since the boot."""

    pool_bytes: int = 0  # compressed
    stored_bytes: int = 0  # the same pages, uncompressed
    loaded_pages: int = 0
    stored_pages: int = 0
    written_back_pages: int = 0  # handed down to a swap area; since Linux 6.8


def zswap_use(meminfo: Path = _MEMINFO, vmstat: Path = _VMSTAT) -> ZswapUse:
    """All of it 0 where there is no zswap.  Raises `OSError`."""
    found = {**_numbers(meminfo), **_numbers(vmstat)}
    return ZswapUse(
        pool_bytes=found.get("Zswap:", 0) * KIB,
        stored_bytes=found.get("Zswapped:", 0) * KIB,
        loaded_pages=found.get("zswpin", 0),
        stored_pages=found.get("zswpout", 0),
        written_back_pages=found.get("zswpwb", 0),
    )


def _numbers(path: Path) -> dict[str, int]:
    with open(path) as file:
        lines = [line.split() for line in file if line.startswith(("zsw", "Zsw"))]
    return {fields[0]: int(fields[1]) for fields in lines}


def zswap_counters(directory: Path = _DEBUG) -> dict[str, int]:
    """Counters of debugfs by name, such as ``pool_limit_hit``; none where it can't be read."""
    found = {}
    try:
        for path in sorted(directory.iterdir()):
            text = path.read_text().strip()
            if text.isdecimal():
                found[path.name] = int(text)
    except OSError:
        return {}
    return found
