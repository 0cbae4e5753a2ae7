"""Numbers of the kernel and of a device, read before and after a run.

Parses text and subtracts.  Knows no peer and runs no command; what lies on a mount is read
elsewhere, with a limit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.filesystem import metrics_text

_SECTOR_BYTES = 512  # of a disk's `stat`, whatever the disk's own is


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went to a disk and came from it so far."""

    evicted_pages: int  # pages that moved to the disk, as often as they did
    written_back_pages: int  # those of them that a pool had held before
    written_bytes: int
    read_bytes: int

    def since(self, before: Traffic) -> Traffic:
        """What was added."""
        return Traffic(
            self.evicted_pages - before.evicted_pages,
            self.written_back_pages - before.written_back_pages,
            self.written_bytes - before.written_bytes,
            self.read_bytes - before.read_bytes,
        )

    @property
    def bytes_per_evicted_page(self) -> float:
        """Raises `HostError` where nothing was evicted: there is nothing to compare."""
        if self.evicted_pages <= 0:
            raise HostError("no page was evicted to the disk; the pool never overflowed")
        return self.written_bytes / self.evicted_pages


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What stored pages take."""

    used_bytes: int  # with all that grows with them
    compressed_bytes: int  # of the pages alone
    duplicate_pages: int


@dataclass(frozen=True, slots=True)
class DiskIo:
    """What a disk did for everybody since it is there."""

    read_bytes: int
    written_bytes: int

    def since(self, before: DiskIo) -> DiskIo:
        """What was added."""
        return DiskIo(
            self.read_bytes - before.read_bytes, self.written_bytes - before.written_bytes
        )


def disk_io(path: str) -> DiskIo:
    """Of the disk or partition ``path`` lies on.  Raises `HostError` where it is on none."""
    device = os.stat(path).st_dev
    where = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    try:
        return parse_disk_stat(where.read_text())
    except OSError as exc:
        raise HostError(f"{path} is not on a disk of its own ({where}: {exc.strerror})") from exc


def parse_disk_stat(text: str) -> DiskIo:
    """A line of /sys/block/DISK/stat."""
    fields = text.split()
    return DiskIo(
        read_bytes=int(fields[2]) * _SECTOR_BYTES, written_bytes=int(fields[6]) * _SECTOR_BYTES
    )


def parse_mm_stat(text: str) -> MemoryUse:
    """/sys/block/zramN/mm_stat: original, compressed, used bytes, and others."""
    fields = text.split()
    return MemoryUse(used_bytes=int(fields[2]), compressed_bytes=int(fields[1]), duplicate_pages=0)


def vmstat() -> dict[str, int]:
    """/proc/vmstat."""
    return parse_vmstat(Path("/proc/vmstat").read_text())


def parse_vmstat(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    return {name: int(value) for name, value in map(str.split, text.splitlines())}


def parse_metrics(text: str) -> dict[str, int]:
    """OpenMetrics of a device as statistics by their names.  Raises `HostError`."""
    if not text.endswith(metrics_text.CONTENT_END):
        raise HostError("the metrics of the device are cut off")
    return metrics_text.parse_metrics(text)
