"""The encrypted tier: another tier gets what it can neither read nor change unseen.

Its extents are those of the tier inside, which have room for `ENCRYPTED_SEGMENT_BYTES`
(``segment_cipher.py``).

    write   a buffer, or the line for one -> encrypt, a slice a turn of the loop -> write it
    read    the blocks around the range -> verify and decrypt -> cut out
    long    a buffer, or the line -> that in parts, some of them at once -> the whole range

To encrypt 1 MiB takes 330 us, and nothing else is served meanwhile.  So it goes in slices of
`SLICE_CHUNKS`, 41 us each, one a turn, however many segments are on their way.  A long read comes
in parts of as many, and one a turn is decrypted.  From a server `REMOTE_PARTS` are asked for at
once: a segment takes the time of the network twice, not 8 times.  Half of the places for windows
of read-ahead are left to faults (``remote_wire.py``).  From a file it is `LOCAL_PARTS`: it reads
while another part is decrypted.

A page takes 1.6 us more than without; see docs/encryption.md.

A block that does not verify is an `OSError` of that read (EBADMSG), as one that can't be read.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

import trio

from fuseswap.errors import kept
from fuseswap.tiers.io_buffers import resident_buffers
from fuseswap.tiers.segment_cipher import BLOCK_AT, CHUNKS, SegmentCipher, chunks_of, plain_at
from fuseswap.tiers.tier import Read, Tier, Written
from fuseswap.units import ENCRYPTED_SEGMENT_BYTES, PAGE_SIZE

log = logging.getLogger(__name__)

SLICE_CHUNKS = 32
SEGMENTS = 3
REMOTE_PARTS = 4
LOCAL_PARTS = 2
# A window of read-ahead with both its edges, where it ends in the chunk of two blocks.
_AT_ONCE_CHUNKS = 34
_LOGGED = 20


class _Sealing:
    """A write whose segment is being encrypted, up to ``chunk``."""

    __slots__ = ("buffer", "chunk", "done", "extent", "generation", "segment")

    def __init__(
        self,
        extent: int,
        generation: int,
        segment: memoryview,
        done: Written,
        buffer: memoryview,
    ) -> None:
        self.extent = extent
        self.generation = generation
        self.segment = segment
        self.done = done
        self.buffer = buffer
        self.chunk = 0


class _LongRead:
    """A read of chunks: those before ``chunk`` were asked for, ``under_way`` parts at a time."""

    __slots__ = (
        "buffer",
        "chunk",
        "cut",
        "done",
        "end",
        "error",
        "extent",
        "first",
        "generation",
        "under_way",
    )

    def __init__(
        self,
        extent: int,
        generation: int,
        chunks: tuple[int, int],
        cut: slice,
        done: Read,
        buffer: memoryview,
    ) -> None:
        self.extent = extent
        self.generation = generation
        self.first, self.end = chunks
        self.chunk = self.first
        self.cut = cut
        self.done = done
        self.buffer = buffer
        self.under_way = 0
        self.error: OSError | None = None


def _in_next_turn(work: Callable[[], None]) -> None:
    # In its last turn, as a worker pauses, trio calls what is due and takes no more.
    with contextlib.suppress(trio.RunFinishedError):
        trio.lowlevel.current_trio_token().run_sync_soon(work)


class EncryptedTier:
    """``inner`` with its segments encrypted; a `fuseswap.tiers.tier.Tier`.

    ``segments``: buffers for so many, resident from the start.  Who finds none free waits in
    line: the segments that writeback has on their way (``writeback_batch_size``), and one that is
    read back.  Counts reads that did not verify: ``unverified``.
    """

    is_readable = False

    def __init__(self, inner: Tier, cipher: SegmentCipher, *, segments: int = SEGMENTS) -> None:
        self.name = inner.name
        self.read_unit = max(PAGE_SIZE, inner.read_unit)
        self.unverified = 0
        self._inner = inner
        self._cipher = cipher
        self._buffers = resident_buffers(((ENCRYPTED_SEGMENT_BYTES, segments),))
        self._sealing: deque[_Sealing] = deque()  # ``segments`` at most: each has a buffer
        self._parts = REMOTE_PARTS if inner.is_remote else LOCAL_PARTS
        # Parts that have come, ``_parts`` of each long read at most: its first chunk and its end.
        self._arrived: deque[tuple[_LongRead, int, int, bytes | OSError]] = deque()

    @property
    def extent_count(self) -> int:
        """See `Tier`."""
        return self._inner.extent_count

    @property
    def volatile(self) -> bool:
        """See `Tier`."""
        return self._inner.volatile

    @property
    def is_remote(self) -> bool:
        """See `Tier`."""
        return self._inner.is_remote

    # -- writes ------------------------------------------------------------------------

    def begin_write(self, extent: int, generation: int, segment: memoryview, done: Written) -> None:
        """See `Tier`; ``segment`` is read in the turns to come."""
        use = partial(self._seal, extent, generation, segment, done)
        self._buffers.take(ENCRYPTED_SEGMENT_BYTES, use)

    def _seal(
        self, extent: int, generation: int, segment: memoryview, done: Written, buffer: memoryview
    ) -> None:
        self._sealing.append(_Sealing(extent, generation, segment, done, buffer))
        if len(self._sealing) == 1:
            _in_next_turn(self._seal_slice)

    def _seal_slice(self) -> None:
        one = self._sealing[0]
        end = min(one.chunk + SLICE_CHUNKS, CHUNKS)
        where = (one.extent, one.generation)
        self._cipher.seal(*where, one.segment, one.buffer, one.chunk, end)
        one.chunk = end
        if end == CHUNKS:
            self._sealing.popleft()
            written = partial(self._written, one.buffer, one.done)
            self._inner.begin_write(*where, one.buffer, written)
        if self._sealing:
            _in_next_turn(self._seal_slice)

    def _written(self, buffer: memoryview, done: Written, error: OSError | None) -> None:
        self._buffers.give_back(buffer)
        done(error)

    # -- reads -------------------------------------------------------------------------

    def begin_read(
        self, extent: int, generation: int, offset: int, length: int, done: Read
    ) -> None:
        """See `Tier`; reads whole blocks around the range and no more."""
        first, end = chunks = chunks_of(offset, length)
        start = offset - plain_at(first)
        cut = slice(start, start + length)
        if end - first > _AT_ONCE_CHUNKS:
            use = partial(self._read_long, extent, generation, chunks, cut, done)
            self._buffers.take(ENCRYPTED_SEGMENT_BYTES, use)
            return

        def ended(found: bytes | OSError) -> None:
            plain = self._opened(extent, generation, first, end, found)
            done(plain[cut] if isinstance(plain, bytes) else plain)

        at = BLOCK_AT[first]
        self._inner.begin_read(extent, generation, at, BLOCK_AT[end] - at, ended)

    def _opened(
        self, extent: int, generation: int, first: int, end: int, found: bytes | OSError
    ) -> bytes | OSError:
        if not isinstance(found, bytes):
            return found
        try:
            return self._cipher.open(extent, generation, found, first, end)
        except OSError as exc:
            self.unverified += 1
            if self.unverified <= _LOGGED:
                log.error("%s: a block is not what was written: %s", self.name, exc)
            return kept(exc)

    def _read_long(
        self,
        extent: int,
        generation: int,
        chunks: tuple[int, int],
        cut: slice,
        done: Read,
        buffer: memoryview,
    ) -> None:
        self._ask_for_parts(_LongRead(extent, generation, chunks, cut, done, buffer))

    def _ask_for_parts(self, read: _LongRead) -> None:
        while read.chunk < read.end and read.under_way < self._parts and read.error is None:
            first = read.chunk
            read.chunk = end = min(first + SLICE_CHUNKS, read.end)
            read.under_way += 1
            at = BLOCK_AT[first]
            ended = partial(self._part_ended, read, first, end)
            self._inner.begin_read(read.extent, read.generation, at, BLOCK_AT[end] - at, ended)

    def _part_ended(self, read: _LongRead, first: int, end: int, found: bytes | OSError) -> None:
        self._arrived.append((read, first, end, found))
        if len(self._arrived) == 1:
            _in_next_turn(self._open_part)

    def _open_part(self) -> None:
        read, first, end, found = self._arrived.popleft()
        if self._arrived:
            _in_next_turn(self._open_part)
        read.under_way -= 1
        self._ask_for_parts(read)
        if read.error is None:
            found = self._opened(read.extent, read.generation, first, end, found)
            if isinstance(found, bytes):
                start = plain_at(first) - plain_at(read.first)
                read.buffer[start : start + len(found)] = found
            else:
                read.error = found
        if read.under_way:
            return
        plain = bytes(read.buffer[read.cut]) if read.error is None else read.error
        self._buffers.give_back(read.buffer)
        read.done(plain)

    # -- the rest ------------------------------------------------------------------------

    def set_timeout(self, seconds: float) -> None:
        """See `Tier`."""
        self._inner.set_timeout(seconds)

    def offset_of(self, extent: int, offset: int) -> int | None:
        """See `Tier`: of the byte that became of that one."""
        chunk, _ = chunks_of(offset, 1)
        return self._inner.offset_of(extent, BLOCK_AT[chunk] + offset - plain_at(chunk))

    def release(self, extent: int, generation: int) -> None:
        """See `Tier`."""
        self._inner.release(extent, generation)

    async def run(self) -> None:
        """See `Tier`."""
        await self._inner.run()
