"""Anonymous pages of a process that runs: which there are, and the bytes of some of them.

A page counts if swap could take it.  It lies in a private mapping, is present, and belongs to no
file (bits 63 and 61 of /proc/PID/pagemap, Documentation/admin-guide/mm/pagemap.rst).  A page that
was read but never written is the kernel's one page of zeros; it counts as one.

Nothing is stopped, and nothing is written.  So a page may change or go while it is looked at: one
that can't be read is left out.  Pages in swap are counted and never read: they would come back.
"""

from __future__ import annotations

import os
import random
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from fuseswap.units import PAGE_SIZE

_WORD_BYTES = 8
_AT_ONCE = 1 << 16  # pages looked at in one call: 512 KiB of words
_PRESENT = 1 << 63
_SWAPPED = 1 << 62
_OF_A_FILE = 1 << 61
_MAPPING = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ...p \S+ \S+ \S+\s*(.*)")
_NOT_MEMORY = (b"[vvar]", b"[vvar_vclock]", b"[vdso]", b"[vsyscall]")


@dataclass(slots=True)
class AnonymousMemory:
    """Of process ``pid``: its runs of pages by address, and how many are in swap."""

    pid: int
    pages: int = 0
    swapped: int = 0
    _starts: list[int] = field(default_factory=list)  # pages before each run
    _firsts: list[int] = field(default_factory=list)  # its first page

    @classmethod
    def of(cls, pid: int) -> AnonymousMemory:
        """What there is now; nothing where it has ended.  Raises `PermissionError`."""
        found = cls(pid)
        try:
            with open(f"/proc/{pid}/maps", "rb") as maps:
                mappings = [m for line in maps if (m := _MAPPING.match(line))]
            fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            return found
        try:
            for mapping in mappings:
                if mapping[3] not in _NOT_MEMORY:
                    found._look(fd, *(int(mapping[n], 16) // PAGE_SIZE for n in (1, 2)))
        except ProcessLookupError:
            pass  # it has ended meanwhile
        finally:
            os.close(fd)
        return found

    def _look(self, fd: int, begin: int, end: int) -> None:
        for first in range(begin, end, _AT_ONCE):
            wanted = min(end - first, _AT_ONCE) * _WORD_BYTES
            raw = os.pread(fd, wanted, first * _WORD_BYTES)
            if any(raw):
                self._add(first, array("Q", raw))

    def _add(self, first: int, words: array[int]) -> None:
        inside = False
        for page, word in enumerate(words, first):
            counts = word & (_PRESENT | _OF_A_FILE) == _PRESENT
            if counts and not inside:
                self._starts.append(self.pages)
                self._firsts.append(page)
            inside = counts
            self.pages += counts
            self.swapped += bool(word & _SWAPPED)

    def address(self, number: int) -> int:
        """Of the page ``number``, of 0 to ``pages`` - 1."""
        run = bisect_right(self._starts, number) - 1
        return (self._firsts[run] + number - self._starts[run]) * PAGE_SIZE

    def read(self, numbers: list[int]) -> Iterator[bytes]:
        """The pages of ``numbers`` that can be read.  Raises `PermissionError`."""
        try:
            fd = os.open(f"/proc/{self.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            return
        try:
            for number in numbers:
                try:
                    page = os.pread(fd, PAGE_SIZE, self.address(number))
                except PermissionError:
                    raise
                except OSError:
                    continue
                if len(page) == PAGE_SIZE:
                    yield page
        finally:
            os.close(fd)


def sample(memories: list[AnonymousMemory], most: int, chance: random.Random) -> Iterator[bytes]:
    """At most so many pages of all ``memories``, each page as likely as any other."""
    total = sum(one.pages for one in memories)
    chosen = sorted(chance.sample(range(total), min(most, total)))
    first = at = 0
    for one in memories:
        numbers = []
        while at < len(chosen) and chosen[at] < first + one.pages:
            numbers.append(chosen[at] - first)
            at += 1
        yield from one.read(numbers)
        first += one.pages
