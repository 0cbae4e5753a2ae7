"""The anonymous pages of a process, through /proc.

A page counts if swap could take it: it lies in a private mapping, is present, and belongs
to no file (bits 63 and 61 of /proc/PID/pagemap, Documentation/admin-guide/mm/pagemap.rst).
So the changed pages of a program's data are in, and its text is not.  A huge page is
the 512 pages the kernel would split it into; a page that was read but never written is the
kernel's one zero page, and counts as a page of zeros.

The process has to be stopped meanwhile.  Nothing is written to it.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.units import MIB, PAGE_SIZE

_PRESENT = 1 << 63
_SWAPPED = 1 << 62
_OF_A_FILE = 1 << 61

_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ...p \S+ \S+ \S+\s*(.*)")
_NOT_MEMORY = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]")
_ENTRIES_A_READ = 1 << 16
_PAGES_A_READ = MIB // PAGE_SIZE
_PIECE_PAGES = 64  # that stay together where only a part is wanted


@dataclass(frozen=True, slots=True)
class Found:
    """Where the pages are: (first page, pages) by address; ``swapped`` ones are not in it."""

    runs: Sequence[tuple[int, int]]
    swapped: int

    @property
    def pages(self) -> int:
        """How many are in the runs."""
        return sum(count for _, count in self.runs)


def private_mappings(maps: str) -> list[tuple[int, int]]:
    """(first page, end page) of each private mapping in the text of /proc/PID/maps."""
    found = []
    for line in maps.splitlines():
        match = _MAPPING.match(line)
        if match and match[3] not in _NOT_MEMORY:
            found.append((int(match[1], 16) // PAGE_SIZE, int(match[2], 16) // PAGE_SIZE))
    return found


def runs_of(first_page: int, entries: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(page, pages) of what counts, from the pagemap entries of ``first_page`` on."""
    start = None
    for page, entry in enumerate(entries, first_page):
        if entry & (_PRESENT | _OF_A_FILE) == _PRESENT:
            start = page if start is None else start
        elif start is not None:
            yield start, page - start
            start = None
    if start is not None:
        yield start, first_page + len(entries) - start


def find(pid: int) -> Found:
    """The anonymous pages of ``pid`` that are in memory.  Raises `HostError`."""
    runs: list[tuple[int, int]] = []
    swapped = 0
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
            for begin, end in private_mappings(maps):
                for first in range(begin, end, _ENTRIES_A_READ):
                    count = min(end - first, _ENTRIES_A_READ)
                    raw = os.pread(pagemap.fileno(), 8 * count, 8 * first)
                    if not any(raw):
                        continue
                    entries = struct.unpack(f"<{len(raw) // 8}Q", raw)
                    runs += runs_of(first, entries)
                    swapped += sum(1 for entry in entries if entry & _SWAPPED)
    except OSError as exc:
        raise _unreadable(pid, exc) from exc
    return Found(runs, swapped)


def thinned(runs: Sequence[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """At most ``limit`` pages of ``runs``, in pieces of some 64 spread evenly over all of them."""
    total = sum(count for _, count in runs)
    if total <= limit:
        return list(runs)
    pieces = max(1, limit // _PIECE_PAGES)
    length = limit // pieces
    wanted = [
        (total * piece // pieces, total * piece // pieces + length) for piece in range(pieces)
    ]
    kept = []
    at = piece = 0  # pages before this run; the piece looked for
    for first, count in runs:
        while piece < pieces and wanted[piece][0] < at + count:
            begin, end = wanted[piece]
            taken = max(begin - at, 0), min(end - at, count)
            kept.append((first + taken[0], taken[1] - taken[0]))
            if end > at + count:
                break  # the rest of the piece is in the next run
            piece += 1
        at += count
    return kept


def read(pid: int, runs: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The bytes of ``runs`` in order, at most 1 MiB at a time.  Raises `HostError`."""
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            for first, count in runs:
                for page in range(first, first + count, _PAGES_A_READ):
                    size = min(first + count - page, _PAGES_A_READ) * PAGE_SIZE
                    data = os.pread(memory.fileno(), size, page * PAGE_SIZE)
                    if len(data) != size:
                        raise HostError(f"process {pid} changed while its memory was read")
                    yield data
    except OSError as exc:
        raise _unreadable(pid, exc) from exc


def _unreadable(pid: int, exc: OSError) -> HostError:
    if isinstance(exc, FileNotFoundError | ProcessLookupError):
        return HostError(f"there is no process {pid}, or it has ended")
    if isinstance(exc, PermissionError):
        return HostError(f"the memory of process {pid} may not be read; try as root")
    return HostError(f"cannot read the memory of process {pid}: {exc.strerror}")
