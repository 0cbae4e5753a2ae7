"""The words between a worker and a tier process, and the memory that both map.

A tier process (``tier_process.py``) has the client of a server on another machine, or of a plugin.
The supervisor makes three descriptors for each such tier, and keeps them all:

    worker's end    of a SOCK_SEQPACKET pair, for `fuseswap.tiers.remote_tier.RemoteTier`
    process's end   of that pair; one process at a time reads it
    memory          `memory_bytes`, unevictable, filled with zeros, memory taken beforehand

Every worker inherits all three and uses the first and the last.  So the process ends when
supervisor and workers are gone: only then is no other end of its socket open.  The process is
started as ``python -m fuseswap.tiers.tier_process JSON`` (`fuseswap.tiers.tier_process.Setup`).  It
inherits its end and the memory, never the worker's end.  It is started again when it has ended.
It is killed where `read_pulse` stands still for `PULSE_LOST_S`.

Memory:

    page 0    the pulse: u64 incarnation, u64 CLOCK_MONOTONIC in ns, every `PULSE_S`
    then      places for reads and writes (`KINDS`), one after the other
    then      u64 an extent: the version that was written last (the worker's; `next_version`)

Packets to the process are `REQUEST`, those to the worker `ANSWER`.  A session is an epoch, drawn
by the worker when it starts, and an incarnation, drawn by the process when it starts:

    worker               process
                    <-   HELLO, epoch 0          once, when it has started
    BEGIN, epoch    ->                           when a worker starts, and after a strange HELLO
                    <-   HELLO, epoch            it has forgotten older epochs
    WRITE, READ     ->                           at most one a place; in flight ones once more
                    <-   DONE, errno             once; of another session neither is heard
    RELEASE         ->                           a hint, no answer
    END             ->                           of the supervisor; with `FORGET` in ``length`` all
                                                 of the device is deleted first

So a packet that an earlier process has left unread is not read by the next one.  A result for an
earlier worker is never put into a place, since the process looks at the epoch just before.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from typing import NamedTuple

from fuseswap.linux import syscalls
from fuseswap.units import ENCRYPTED_SEGMENT_BYTES, KIB, PAGE_SIZE

# Operation, milliseconds it may take, epoch, incarnation, id, generation, extent, offset, length,
# place.  0 milliseconds: as many as it likes.
REQUEST = struct.Struct("<B3xIQQQQIIII")
# Operation, errno, epoch, incarnation, id.
ANSWER = struct.Struct("<B3xIQQQ")
BEGIN, READ, WRITE, RELEASE, END = range(1, 6)
HELLO, DONE = 1, 2
FORGET = 1

PULSE = struct.Struct("<QQ")
PULSE_S = 0.5
PULSE_LOST_S = 15.0

LARGEST_BYTES = ENCRYPTED_SEGMENT_BYTES


class Kind(NamedTuple):
    """Places for one kind of request, in bytes each."""

    size: int
    places: int


# Objects, windows of read-ahead, whole segments; then segments to write.
READS = (Kind(16 * KIB, 64), Kind(160 * KIB, 8), Kind(LARGEST_BYTES, 1))
WRITES = Kind(LARGEST_BYTES, 3)
KINDS = (*READS, WRITES)
WRITES_START = PAGE_SIZE + sum(kind.size * kind.places for kind in READS)
VERSIONS_START = WRITES_START + WRITES.size * WRITES.places
_COUNT_BITS = 16


class Packet(NamedTuple):
    """A `REQUEST`, read."""

    operation: int
    limit_ms: int
    epoch: int
    incarnation: int
    number: int
    generation: int
    extent: int
    offset: int
    length: int
    place: int  # bytes from the start of the memory


def end_packet(*, forget: bool) -> bytes:
    """For the supervisor: the process may end, and delete what it holds for the device."""
    return REQUEST.pack(END, 0, 0, 0, 0, 0, 0, 0, FORGET if forget else 0, 0)


def read_pulse(memory_fd: int) -> tuple[int, float]:
    """For the supervisor: the incarnation that runs, and how many seconds ago it said so."""
    incarnation, at_ns = PULSE.unpack(os.pread(memory_fd, PULSE.size, 0))
    return incarnation, (time.monotonic_ns() - at_ns) / 1e9


def beat(memory: mmap.mmap, incarnation: int) -> None:
    """For the process: it runs."""
    PULSE.pack_into(memory, 0, incarnation, time.monotonic_ns())


def memory_bytes(extent_count: int) -> int:
    """Of the memory of a tier with so many extents: 6.4 MiB, and 8 bytes an extent."""
    return VERSIONS_START + -(-extent_count * 8 // PAGE_SIZE) * PAGE_SIZE


def next_version(generation: int, last: int) -> int:
    """What the process is told as the generation; ``last`` is the version before, of any.

    No other write ever has it.  A segment whose write has failed may be written to the same extent
    again, and a release is done later.  With the same key, a server that stood still meanwhile
    would delete the segment that it was given just now.
    """
    return generation << _COUNT_BITS | last + 1 & (1 << _COUNT_BITS) - 1


def is_of(generation: int, version: int) -> bool:
    """Whether ``version`` is of this generation."""
    return version >> _COUNT_BITS == generation


def map_memory(fd: int) -> mmap.mmap:
    """All of it, with its page tables; the memory is taken where it was not yet."""
    memory = mmap.mmap(fd, os.fstat(fd).st_size)
    syscalls.make_resident(memory)
    return memory
