"""Settings of the machine's memory management that keep a swap-out moving, and their way back.

The kernel's half of a swap-out (the loop device's thread, FUSE) allocates for each request and
gets none of the kernel's reserve.  It waits where free memory is below the min watermark.  So
these keep free memory above it (Documentation/admin-guide/sysctl/vm.rst):

    watermark_boost_factor   0: the watermarks are not raised for a time after fragmentation;
                             costs nothing
    watermark_scale_factor   kswapd begins earlier and frees more; in 1/10000 of memory, which
                             lie between min and low and again between low and high
    min_free_kbytes          the min watermark; always free

The note is ``.sysctl.json`` (``kept_settings.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fuseswap.linux.kept_settings import KeptSettings
from fuseswap.units import GIB, KIB, MIB

NAMES = ("watermark_boost_factor", "watermark_scale_factor", "min_free_kbytes")
# Up to so much memory: watermark_scale_factor and min_free_kbytes.  More memory needs less.
_BY_MEMORY = (
    (640 * MIB, 300, 12_000),
    (2 * GIB, 200, 16_000),
    (8 * GIB, 100, 24_000),
)


def recommended(memory_bytes: int, *, thorough: bool = False) -> dict[str, int]:
    """What a machine of so many bytes should have; ``thorough``: also what costs memory.

    In a guest of 384 MiB all three keep up to 31 MiB free.  A run that takes 142 s with the first
    alone had no end after 150 s (``docs/decisions.md``).
    """
    wanted = {NAMES[0]: 0}
    if thorough:
        _, wanted[NAMES[1]], wanted[NAMES[2]] = next(
            (row for row in _BY_MEMORY if memory_bytes <= row[0]), _BY_MEMORY[-1]
        )
    return wanted


def cost_bytes(values: Mapping[str, int], memory_bytes: int) -> int:
    """Memory that these keep free at most: the high watermark."""
    scale = values.get("watermark_scale_factor", 10)
    return values.get("min_free_kbytes", 0) * KIB + 2 * memory_bytes * scale // 10_000


def missing(wanted: Mapping[str, int], current: Mapping[str, int]) -> dict[str, int]:
    """What of ``wanted`` is worse at present; a better value is never touched."""
    return {
        name: value
        for name, value in wanted.items()
        if name in current and _is_worse(name, current[name], value)
    }


def _is_worse(name: str, current: int, wanted: int) -> bool:
    return current > wanted if name == "watermark_boost_factor" else current < wanted


class Sysctl:
    """The three settings below ``directory``, and the note in ``root``."""

    def __init__(self, root: Path, directory: Path = Path("/proc/sys/vm")) -> None:
        self._kept = KeptSettings(root / ".sysctl.json", directory, NAMES, int)
        self.read = self._kept.read
        self.restore = self._kept.restore
        self.set_by_us = self._kept.set_by_us

    def tune(self, device: str, wanted: Mapping[str, int]) -> str | None:
        """Set what is missing for ``device``; returns a note where that is not permitted."""
        refused = self._kept.change(device, lambda current: missing(wanted, current))
        if refused:
            shown = ", ".join(f"vm.{name}={value}" for name, value in refused.items())
            return f"may stall when memory is short: can't set {shown} from here"
        return None
