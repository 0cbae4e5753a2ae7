"""When the power goes, and what the disk has then.

Half of the cuts come right after a flush: everything before it is there.  The others come
between two flushes.  Of the writes since the last one a random part is lost, and one of those
that are kept may have been torn between two sectors.  All of it follows from a seed.

    flush  w1 w2 w3 w4 | w5 flush
           x     x           the cut `|` loses w1 and w3
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kernels import write_log
from tests.kernels.write_log import Entry

_SECTOR = 4096  # of today's disks, whatever they say
_LOST_PARTS = (0.0, 0.1, 0.5, 0.9, 1.0)  # of the writes that were not flushed


@dataclass(frozen=True, slots=True)
class Cut:
    """Entries before ``at`` were submitted; those of ``lost`` are not on the disk.

    ``torn``: an entry of which only its first sectors are there, and their bytes.
    """

    at: int
    lost: frozenset[int] = frozenset()
    torn: tuple[int, int] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return not self.lost and self.torn is None


def intervals(entries: Sequence[Entry]) -> list[range]:
    """Numbers of the writes between two flushes, and after the last; none of no write."""
    found, start = [], 0
    for number, entry in enumerate(entries):
        if entry.is_flush:
            found.append(range(start, number))
            start = _after(entries, number)
    found.append(range(start, len(entries)))
    return [one for one in found if any(entries[number].is_write for number in one)]


def choose(entries: Sequence[Entry], count: int, seed: int, start: int = 0) -> list[Cut]:
    """So many cuts, the earliest first, none before the entry ``start``.

    Every interval between two flushes is as likely as another, however much was written in it.
    """
    chosen = random.Random(seed)
    places = [one for one in intervals(entries) if one.stop > start]
    if not places:
        return []
    marks = chosen.sample(places, min(len(places), count // 2))
    cuts = [Cut(min(one.stop + 1, len(entries))) for one in marks]
    while len(cuts) < count:
        place = chosen.choice(places)
        at = chosen.randint(max(place.start + 1, start), place.stop)
        cuts.append(_between(entries, place, at, chosen))
    return sorted(cuts, key=lambda cut: cut.at)


def _between(entries: Sequence[Entry], place: range, at: int, chosen: random.Random) -> Cut:
    loose = [
        number
        for number in range(place.start, at)
        if entries[number].is_write and not entries[number].is_kept
    ]
    part = chosen.choice(_LOST_PARTS)
    lost = frozenset(number for number in loose if chosen.random() < part)
    left = [number for number in loose if number not in lost and _tears(entries[number])]
    torn = None
    if left and chosen.random() < 0.5:
        number = chosen.choice(left)
        torn = number, chosen.choice(_tears(entries[number]))
    return Cut(at, lost, torn)


def _tears(entry: Entry) -> range:
    """After how many bytes a write may be torn: between two sectors of the disk.

    Not of 512 bytes: ext4's superblock, torn in its middle, has a wrong checksum.
    """
    return range(_SECTOR - entry.at % _SECTOR, entry.size, _SECTOR)


@contextmanager
def replayed(
    entries: Sequence[Entry], log: Path, base: Path, cuts: Sequence[Cut]
) -> Iterator[Iterator[tuple[Cut, Path]]]:
    """An iterator of each cut and a disk as it was then.  That disk is gone at the next one.

    ``base``: the disk before the first entry.  ``cuts``: the earliest first.
    """
    # In memory: a file system that is mounted and unmounted flushes more than a disk likes.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else log.parent
    with tempfile.TemporaryDirectory(dir=memory, prefix="replay-") as name:
        whole, disk = Path(name) / "whole", Path(name) / "disk"
        _copy(base, whole)
        yield _replay(entries, log, whole, disk, cuts)


def _replay(
    entries: Sequence[Entry], log: Path, whole: Path, disk: Path, cuts: Sequence[Cut]
) -> Iterator[tuple[Cut, Path]]:
    with open(log, "rb") as source, open(whole, "r+b", buffering=0) as kept:
        done = 0  # entries before it are on `whole`, all flushed
        for cut in cuts:
            flushed = _flushed_before(entries, cut.at)
            for entry in entries[done:flushed]:
                write_log.apply(entry, source.fileno(), kept.fileno())
            done = max(done, flushed)
            _copy(whole, disk)
            with open(disk, "r+b", buffering=0) as file:
                for number in range(done, cut.at):
                    if number in cut.lost:
                        continue
                    end = cut.torn[1] if cut.torn and cut.torn[0] == number else None
                    write_log.apply(entries[number], source.fileno(), file.fileno(), end=end)
            yield cut, disk


def _flushed_before(entries: Sequence[Entry], at: int) -> int:
    flushes = (number for number in reversed(range(at)) if entries[number].is_flush)
    return next((_after(entries, number) for number in flushes), 0)


def _after(entries: Sequence[Entry], flush: int) -> int:
    """The first that is not flushed: what a flush itself writes comes after it."""
    return flush if entries[flush].is_write and not entries[flush].is_kept else flush + 1


def _copy(source: Path, to: Path) -> None:
    """With its holes: most of a disk of a test was never written."""
    to.unlink(missing_ok=True)
    with open(source, "rb", buffering=0) as read, open(to, "wb", buffering=0) as written:
        size, end = os.fstat(read.fileno()).st_size, 0
        written.truncate(size)
        while end < size:
            try:
                start = os.lseek(read.fileno(), end, os.SEEK_DATA)
            except OSError:  # the rest is a hole
                return
            end = os.lseek(read.fileno(), start, os.SEEK_HOLE)
            read.seek(start)
            written.seek(start)
            while start < end:
                start += os.sendfile(written.fileno(), read.fileno(), start, end - start)
