"""The journal: requests taken from the kernel and not answered yet, for the next worker.

Before Linux 6.9 the kernel does not send again what a dead worker had taken.  So a request
stays in shared memory until it is answered:

    0          one word a slot: its sequence, 0 for a free one
    4096       slot 0: the transport reads every request straight into it
    4096 + n * BUFFER_BYTES
               slot n: a request that must wait (a tier, room in the pool)

A request is in slot 0 from read(2) on.  The kernel copies it whole before the process can die.
A signal ends the process only on its way out of the call (fuse_dev_do_read in fs/fuse/dev.c;
see `prepare` for the one exception).  It leaves slot 0 when its reply is written (`clear`), or
for a slot of its own (`take`).  That slot is freed in the step in which its answer is written.
Every such change is one aligned 8-byte store:

    take    bytes -> sequence of the slot: **commit** -> word 0 of slot 0 zeroed
    answer  reply written -> sequence, or word 0 of slot 0, zeroed

Dead between reply and zero, and the request is carried out twice; the kernel says ENOENT to
the second reply.  Nothing newer is undone by that.  Newer requests are read into slot 0, so
none was between the two.  A process that waits for an answer sends no next version of a page.
Opcode by opcode:

    READ, LOOKUP, GETATTR, STATFS, READDIR, LSEEK    change nothing
    WRITE, FALLOCATE of the swapfile                 the same bytes, the same holes again: a newer
                                                     write waits for the hole (``discards.py``)
    WRITE to params/                                 the same value; an order is given again
    OPEN                                             one more handle, of which nobody knows
    RELEASE                                          of a handle the new worker never gave
    INIT                                             settles the same again
    SETATTR, FLUSH, FSYNC, FORGET, INTERRUPT, ...    do nothing

Once `prepare` was called no memory is taken any more.  `LARGE_SLOTS` are resident as a whole, for
writes that wait, and of the others `_KEPT_BYTES`, for a read or a write of a page.

Called by the transport alone; knows nothing of requests but the header's first 16 bytes.
"""

from __future__ import annotations

import struct

from fuseswap.store.region import Region
from fuseswap.transport.fuse_protocol import BUFFER_BYTES
from fuseswap.units import PAGE_SIZE

# What a slot has and keeps of its memory: a request of a page and its header fit in.
_KEPT_BYTES = 2 * PAGE_SIZE
LARGE_SLOTS = 4  # for more; two MiB of writes wait, and one request more (``devfuse.py``)
_WORDS = PAGE_SIZE // 8  # the table; the word after it is the first of slot 0
_HEAD = struct.Struct("<IIQ")  # fuse_in_header: len, opcode, unique


class Journal:
    """The requests in flight in ``region``; attaches to what a former worker left there."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._words = region.buffer[: PAGE_SIZE + 8].cast("Q")
        self._slots = min((region.size_bytes - PAGE_SIZE) // BUFFER_BYTES, _WORDS) - 1
        self.buffer = self.view(0)
        used = {slot for slot in range(1, self._slots + 1) if self._words[slot]}
        self._newest = max((self._words[slot] for slot in used), default=0)
        self._free = [slot for slot in range(self._slots, 0, -1) if slot not in used]
        self._free_large: list[int] | None = None  # until `prepare`: all are alike
        self._forget_the_moved(used)
        self._punch_between(used)

    @property
    def has_room(self) -> bool:
        """Whether a request that is read now could wait."""
        return bool(self._free) and self._free_large != []

    @property
    def is_empty(self) -> bool:
        """Whether no request waits in a slot of its own."""
        return len(self._free) + len(self._free_large or []) == self._slots

    def taken(self) -> list[int]:
        """Slots that hold a request, oldest first; slot 0, the newest, last."""
        words = self._words
        slots = [slot for slot in range(1, self._slots + 1) if words[slot]]
        slots.sort(key=words.__getitem__)
        return [*slots, 0] if words[_WORDS] else slots

    def view(self, slot: int) -> memoryview:
        """The `BUFFER_BYTES` of ``slot``: request header, body, and older bytes after them."""
        start = self._start(slot)
        return self._region.buffer[start : start + BUFFER_BYTES]

    def length_of(self, slot: int) -> int:
        """Length in bytes of the request in ``slot``, as it says itself."""
        length: int = _HEAD.unpack_from(self._region.buffer, self._start(slot))[0]
        return length

    def take(self) -> int:
        """Move the request in slot 0 to a slot of its own, and return that.

        Only while `has_room`.
        """
        length = self.length_of(0)
        large = self._free_large is not None and length > _KEPT_BYTES
        slot = self._free_large.pop() if large and self._free_large else self._free.pop()
        start = self._start(slot)
        self._region.buffer[start : start + length] = self.buffer[:length]
        self._newest += 1
        self._words[slot] = self._newest
        self.clear()
        return slot

    def clear(self) -> None:
        """The request in slot 0 is answered."""
        self._words[_WORDS] = 0

    def free(self, slot: int) -> None:
        """The request in ``slot`` (not 0) is answered; what it took of memory is returned."""
        self._words[slot] = 0
        if self._free_large is not None and slot <= LARGE_SLOTS:
            self._free_large.append(slot)
            return
        self._free.append(slot)
        surplus = -(-self.length_of(slot) // PAGE_SIZE) * PAGE_SIZE - _KEPT_BYTES
        if surplus > 0:
            self._region.punch(self._start(slot) + _KEPT_BYTES, surplus)

    def prepare(self) -> None:
        """Make slot 0 resident and mapped, and what else requests will need.

        A SIGKILL that comes while the kernel copies a request is no matter as long as it need
        not fault for it.  Where it must, it gives up (`__get_user_pages`, mm/gup.c), and the
        request ends with EIO.  A page that compaction is just moving is not excluded; none
        was seen.
        """
        self._region.populate(0, PAGE_SIZE + BUFFER_BYTES)
        for slot in range(1, self._slots + 1):
            size = BUFFER_BYTES if slot <= LARGE_SLOTS else _KEPT_BYTES
            self._region.populate(self._start(slot), size)
        self._free_large = [slot for slot in self._free if slot <= LARGE_SLOTS]
        self._free = [slot for slot in self._free if slot > LARGE_SLOTS]
        for at in range(0, BUFFER_BYTES, PAGE_SIZE):  # before Linux 5.14 that maps nothing
            self.buffer[at] = self.buffer[at]

    def leave(self) -> None:
        """Return all memory: no journal is needed here.  Only while `is_empty`."""
        self._region.punch(0, self._region.size_bytes)
        self.close()

    def close(self) -> None:
        """Let go of the region."""
        self._words.release()
        self.buffer.release()

    def _start(self, slot: int) -> int:
        return PAGE_SIZE + slot * BUFFER_BYTES

    def _forget_the_moved(self, used: set[int]) -> None:
        """Clear slot 0 where `take` died after its commit: the request has its own slot."""
        mine = _HEAD.unpack_from(self.buffer)[2]
        buffer = self._region.buffer
        if any(_HEAD.unpack_from(buffer, self._start(slot))[2] == mine for slot in used):
            self.clear()

    def _punch_between(self, used: set[int]) -> None:
        """Return what a former worker's free slots hold, but what `prepare` makes resident."""
        for slot in range(LARGE_SLOTS + 1, self._slots + 1):
            if slot not in used:
                start = self._start(slot) + _KEPT_BYTES
                self._region.punch(start, BUFFER_BYTES - _KEPT_BYTES)
