"""Settings of the machine's memory management that keep a swap-out moving, and their way back.

The kernel's half of a swap-out (the loop device's thread, FUSE) allocates for each request and
gets none of the kernel's reserve.  It waits where free memory is below the min watermark.  So
these keep free memory above it (Documentation/admin-guide/sysctl/vm.rst):

    watermark_boost_factor   0: the watermarks are not raised for a time after fragmentation;
                             costs nothing
    watermark_scale_factor   kswapd begins earlier and frees more; in 1/10000 of memory, which
                             lie between min and low and again between low and high
    min_free_kbytes          the min watermark; always free

The note ``.sysctl.json`` in the directory of all devices has the values from before, the values
set, and the devices that wanted them.  The first `up` writes it.  The last `down` puts back each
value that no other program changed meanwhile.  The next `down` takes devices that died without one
off the list.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fuseswap.linux import private_files
from fuseswap.linux.json_file import write_json
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
        self._note_path = root / ".sysctl.json"
        self._directory = directory

    def read(self) -> dict[str, int]:
        """What holds; a setting this kernel lacks is left out."""
        found = {}
        for name in NAMES:
            try:
                found[name] = int((self._directory / name).read_text())
            except (OSError, ValueError):
                continue
        return found

    def tune(self, device: str, wanted: Mapping[str, int]) -> str | None:
        """Set what is missing for ``device``; returns a note where that is not permitted."""
        with self._locked():
            note = self._note()
            refused = []
            current = self.read()
            for name, value in missing(wanted, current).items():
                if note["set"].get(name) != current[name]:  # else ours: the first note holds
                    note["before"][name] = current[name]
                note["set"][name] = value
                self._write_note({**note, "devices": sorted({*note["devices"], device})})
                if not self._write(name, value):
                    refused.append(f"vm.{name}={value}")
                    del note["before"][name], note["set"][name]
            note["devices"] = sorted({*note["devices"], device})
            self._write_note(note if note["set"] else None)
        if refused:
            return f"may stall when memory is short: can't set {', '.join(refused)} from here"
        return None

    def restore(self, alive: set[str]) -> None:
        """Where none of those ``alive`` wanted the settings, put the old ones back."""
        if not self._note_path.exists():
            return
        with self._locked():
            note = self._note()
            note["devices"] = sorted(set(note["devices"]) & alive)
            if note["devices"]:
                self._write_note(note)
                return
            current = self.read()
            for name, before in note["before"].items():
                if current.get(name) == note["set"][name]:
                    self._write(name, before)
            self._write_note(None)

    def set_by_us(self) -> dict[str, int]:
        """What `tune` set and is to be put back."""
        values: dict[str, int] = self._note()["set"]
        return values

    def _write(self, name: str, value: int) -> bool:
        try:
            (self._directory / name).write_text(f"{value}\n")
        except OSError:
            return False
        return True

    def _note(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"devices": [], "before": {}, "set": {}}
        try:
            return {**empty, **json.loads(self._note_path.read_text())}
        except (OSError, ValueError):
            return empty

    def _write_note(self, note: dict[str, Any] | None) -> None:
        if note is None:
            self._note_path.unlink(missing_ok=True)
        else:
            write_json(self._note_path, note)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep the commands of other devices from the note: its directory is locked."""
        private_files.make_directory(self._note_path.parent)
        fd = os.open(self._note_path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
