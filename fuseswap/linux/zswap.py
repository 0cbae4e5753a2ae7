"""zswap in front of a device: its parameters, and their way back.

zswap takes each page on its way to any swap area, and keeps it, compressed, in a pool of its own.
The oldest pages leave the pool, uncompressed, for the area below.  So a device below zswap gets
the cold pages, and a hot one costs no wake-up.  There is one zswap for the whole machine.

Parameters lie in /sys/module/zswap/parameters.  They are set in the order of `NAMES`: `enabled` is
the last, and goes first.  The note is ``.zswap.json`` (``kept_settings.py``).
"""

from __future__ import annotations

import os
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.linux.kept_settings import KeptSettings

PARAMETERS = Path("/sys/module/zswap/parameters")
NAMES = (
    "compressor",
    "max_pool_percent",
    "accept_threshold_percent",
    "shrinker_enabled",
    "enabled",
)
_OPTIONAL = frozenset({"compressor", "shrinker_enabled"})  # a kernel may have neither


def recommended(percent: int) -> dict[str, str]:
    """Parameters for a device below a pool of ``percent`` of memory.

    A quick codec, since pages that stay here are hot; where the kernel has no lz4, as it is.  With
    the shrinker cold pages leave before the pool is full.
    """
    values = ("lz4", str(percent), "90", "Y", "Y")
    return dict(zip(NAMES, values, strict=True))


class Zswap:
    """The parameters below ``directory``, and the note in ``root``."""

    def __init__(self, root: Path, directory: Path = PARAMETERS) -> None:
        self._directory = directory
        self._kept = KeptSettings(root / ".zswap.json", directory, NAMES, str)
        self.read = self._kept.read
        self.restore = self._kept.restore
        self.set_by_us = self._kept.set_by_us

    @property
    def is_on(self) -> bool:
        """Whether zswap takes pages."""
        return self.read().get("enabled") == "Y"

    def require(self) -> None:
        """Raise `HostError` where there is no zswap, or it may not be changed."""
        if not self._directory.is_dir():
            raise HostError(
                "this kernel has no zswap (CONFIG_ZSWAP); without --below-zswap the device works "
                "alone"
            )
        # access(2), and not a trial: a value that is written is a value that is set
        closed = [name for name in self.read() if not os.access(self._directory / name, os.W_OK)]
        if closed:
            raise HostError(
                f"can't write {self._directory / closed[0]} from here (a container?); leave out "
                "--below-zswap, or set zswap outside"
            )

    def put_in_front(self, device: str, percent: int) -> None:
        """Have zswap stand before ``device``, with a pool of ``percent`` of memory.

        Raises `HostError` where the kernel refuses a value; `restore` then undoes the others.
        """
        wanted = recommended(percent)
        refused = self._kept.change(
            device,
            lambda current: {
                name: value
                for name, value in wanted.items()
                if name in current and current[name] != value
            },
        )
        needed = [f"{name}={value}" for name, value in refused.items() if name not in _OPTIONAL]
        if needed:
            raise HostError(f"zswap refuses {', '.join(needed)}; see dmesg")
