"""The pool limit that the stripes of a set share: a page of shared memory, of 64-bit words.

    word 0     magic, word 1: stripes, word 2: the limit of all together, in frames of 1 MiB
    8 + 8 * i  of stripe i: granted, target, held, hungry, oldest, seen

    granted    frames that are this stripe's; those of all together are never more than the limit
    target     frames that its worker is to hold at most; never more than granted
    held       frames that it holds; hungry: 1 where it would use more; oldest: when the segment
               that would leave it next was sealed, in seconds, 0: none can; seen: when it said so

A stripe's words are written by its own worker alone, under the lock, and the limit by a command.
Two words of a stripe change in an order: a target falls before the grant, and rises after it.  So
each worker keeps below its grant, also where one dies between the two.

The lock is one of POSIX: it ends with the process that holds it.  No thread that serves pages
waits for it.  Supervisor, worker and standby map the file, so it is not swapped out.
Imported by the supervisor: neither trio nor a codec here.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from pathlib import Path
from typing import NamedTuple

from fuseswap.daemon.runtime_dir import POOL, Runtime, runtime_root
from fuseswap.errors import HostError
from fuseswap.linux import private_files

_MAGIC = int.from_bytes(b"FSWPOOL1", "little")
_FIRST, _WORDS = 8, 8


class Row(NamedTuple):
    """One stripe, in frames and seconds (CLOCK_BOOTTIME); in the order of its words."""

    granted: int
    target: int
    held: int = 0
    hungry: int = 0
    oldest: int = 0
    seen: int = 0


class PoolTable:
    """The table of one set, open."""

    def __init__(self, path: Path) -> None:
        """Raises `HostError` where it is none, or not there."""
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as exc:
            raise HostError(f"{path}: {exc.strerror}") from exc
        if os.fstat(self._fd).st_size != mmap.PAGESIZE:
            os.close(self._fd)
            raise HostError(f"{path} is no table of a pool")
        self._map = mmap.mmap(self._fd, mmap.PAGESIZE)
        self._words = memoryview(self._map).cast("Q")
        if self._words[0] != _MAGIC or not 0 < self.count <= (len(self._words) - _FIRST) // _WORDS:
            self.close()
            raise HostError(f"{path} is no table of a pool")

    @classmethod
    def create(cls, path: Path, count: int, limit_frames: int) -> None:
        """Shared out evenly.  Raises `OSError`."""
        each = limit_frames // count
        words = [_MAGIC, count, limit_frames, *[0] * (_FIRST - 3)]
        for _ in range(count):
            words += [*Row(each, each), *[0] * (_WORDS - len(Row._fields))]
        content = b"".join(word.to_bytes(8, sys.byteorder) for word in words)
        with open(private_files.open_file(path, os.O_RDWR | os.O_TRUNC), "wb") as file:
            file.write(content.ljust(mmap.PAGESIZE, b"\0"))

    @classmethod
    def of_stripe(cls, name: str) -> PoolTable | None:
        """Of the set that the stripe ``name`` is of; None for other devices, or a lost table."""
        whole = Runtime(name).set_name
        try:
            return cls(runtime_root() / whole / POOL) if whole else None
        except HostError:
            return None

    def close(self) -> None:
        """It is of no use any more."""
        self._words.release()
        self._map.close()
        os.close(self._fd)

    @property
    def count(self) -> int:
        """Stripes."""
        return self._words[1]

    @property
    def limit(self) -> int:
        """Frames of all stripes together, at most."""
        return self._words[2]

    @limit.setter
    def limit(self, frames: int) -> None:
        self._words[2] = frames

    def row(self, stripe: int) -> Row:
        """As it is; of another stripe it may be of two moments without the lock."""
        at = _FIRST + _WORDS * stripe
        return Row(*self._words[at : at + len(Row._fields)])

    def rows(self) -> list[Row]:
        """Every stripe's."""
        return [self.row(stripe) for stripe in range(self.count)]

    def grant(self, stripe: int, frames: int) -> None:
        """So many are the stripe's."""
        self._words[_FIRST + _WORDS * stripe] = frames

    def aim(self, stripe: int, frames: int) -> None:
        """What its worker is to hold at most."""
        self._words[_FIRST + _WORDS * stripe + 1] = frames

    def tell(self, stripe: int, held: int, hungry: int, oldest: int, seen: int) -> None:
        """What the others look at."""
        at = _FIRST + _WORDS * stripe + 2
        for place, word in enumerate((held, hungry, oldest, seen), at):
            self._words[place] = word

    def try_lock(self) -> bool:
        """Whether it is ours now, without a wait.  Raises `OSError`: no memory for it."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(self) -> None:
        """After `try_lock`."""
        fcntl.lockf(self._fd, fcntl.LOCK_UN)
