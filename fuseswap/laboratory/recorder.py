"""From the ring to the file, in a process of its own.

It decides all that the serving thread left open: class, size and codec by the slot word, of which
nothing else is kept.  Hashes are encrypted with a key that is thrown away.  So two stores of the
same contents are alike in one trace, and nothing else can be learned from a hash.

An event stays for one pause before it is read (``trace_ring.py``).  So what a processor shows
late is there by then.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fuseswap.codecs.registry import LAST_RAW
from fuseswap.frontswap.trace_ring import (
    EVENT_BYTES,
    KIND_SHIFT,
    LOAD,
    NOTE,
    STORE,
    TIME_MASK,
    TIME_SHIFT,
    TraceRing,
)
from fuseswap.frontswap.tracer import CORRUPT_PLACE
from fuseswap.laboratory.trace_format import (
    COMPRESSED,
    CORRUPT,
    FOREIGN,
    HOLE,
    INCOMPRESSIBLE,
    MAX_BLOCK_EVENTS,
    REFUSED,
    SAME_FILLED,
    Columns,
    TraceWriter,
)
from fuseswap.store.slot_word import (
    CODEC_MASK,
    CODEC_SHIFT,
    LENGTH_MASK,
    LENGTH_SHIFT,
    OBJECT,
    is_foreign,
    is_same_filled,
)

PAUSE_S = 0.02
_LOOK_EVERY = 50  # pauses
_MOST_AT_ONCE = 1 << 14


class Hashes:
    """Encrypts hashes with a random key."""

    def __init__(self, key: bytes | None = None) -> None:
        # One block a hash, the rest of it zero: there is nothing that a mode would have to hide.
        self._cipher = Cipher(algorithms.AES(key or os.urandom(16)), modes.ECB())

    def hide(self, hashes: array[int]) -> array[int]:
        """As many, in their order."""
        plain = array("Q", bytes(16 * len(hashes)))
        plain[::2] = hashes
        hidden = array("Q")
        hidden.frombytes(self._cipher.encryptor().update(plain.tobytes()))
        return hidden[::2]


class Recorder:
    """Of one ring.  ``is_over`` says why the device is gone; "" while it is not."""

    def __init__(
        self,
        ring: TraceRing,
        writer: TraceWriter,
        limit_bytes: int,
        is_over: Callable[[], str],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ring = ring
        self._writer = writer
        self._limit_bytes = limit_bytes
        self._is_over = is_over
        self._sleep = sleep
        self._hashes = Hashes()
        self._now_ns = time.monotonic_ns() >> TIME_SHIFT << TIME_SHIFT
        self._start_ns = 0
        self._held = Columns.empty()
        self._seen = ring.tail

    def run(self) -> str:
        """Until the worker stops, the device is gone or the limit is reached; returns why."""
        for pauses in range(1 << 62):
            stopped = self._ring.is_stopped
            self.drain(self._seen)
            self._seen = self._ring.head
            if stopped:
                self._sleep(PAUSE_S)
                return self.end("stopped")
            if not pauses % _LOOK_EVERY:
                if reason := self._is_over():
                    return self.end(reason)
                self._flush()
            if self._writer.written_bytes > self._limit_bytes:
                return self.end("the file has reached its limit")
            self._sleep(PAUSE_S)
        raise AssertionError("a trace of years")

    def drain(self, until: int) -> None:
        """Take over the events before number ``until``."""
        ring = self._ring
        while ring.tail < until:
            count = min(until - ring.tail, _MOST_AT_ONCE)
            found = ring.read(ring.tail, count)
            ring.tail += count
            self._take(found)

    def end(self, reason: str) -> str:
        """The rest of the events, and the end."""
        if self._writer.written_bytes <= self._limit_bytes:
            self.drain(self._ring.head)
        self._flush()
        self._writer.end(reason, self._ring.dropped)
        return reason

    def _take(self, found: bytes) -> None:
        """Rows of the ring become columns."""
        halves, wholes = array("I"), array("Q")
        halves.frombytes(found)
        wholes.frombytes(found)
        times, pages = halves[0 :: EVENT_BYTES // 4], halves[1 :: EVENT_BYTES // 4]
        numbers, words = wholes[1 :: EVENT_BYTES // 8], wholes[2 :: EVENT_BYTES // 8]
        if len(self._held.times) + len(times) > MAX_BLOCK_EVENTS:
            self._flush()
        before = self._now_ns >> TIME_SHIFT & TIME_MASK
        first_ns = self._now_ns + ((times[0] - before & TIME_MASK) << TIME_SHIFT)
        if not self._held.times:
            self._start_ns = first_ns
        last = times[-1]
        self._now_ns = first_ns + ((last - times[0] & TIME_MASK) << TIME_SHIFT)
        hidden = self._hashes.hide(numbers)
        sizes, classes, codecs = array("H"), array("B"), array("B")
        for at, (page, word) in enumerate(zip(pages, words, strict=True)):
            kind = page >> KIND_SHIFT
            if kind == STORE:
                numbers[at] = hidden[at]
            size, contents, codec = described(kind, word, numbers[at])
            sizes.append(size)
            classes.append(contents)
            codecs.append(codec)
        self._held.add(Columns(times, pages, numbers, sizes, classes, codecs))

    def _flush(self) -> None:
        self._writer.block(self._held, self._start_ns, self._ring.dropped)
        self._held = Columns.empty()


def described(kind: int, word: int, number: int) -> tuple[int, int, int]:
    """Stored bytes, class and codec, by the slot word of an event; the ``number`` beside it."""
    if kind not in (LOAD, STORE):
        return (word & 0xFFFF, HOLE, 0) if kind == NOTE else (0, HOLE, 0)
    if kind == LOAD and number == CORRUPT_PLACE:
        return 0, CORRUPT, 0
    if word & OBJECT:
        codec = word >> CODEC_SHIFT & CODEC_MASK
        contents = INCOMPRESSIBLE if codec <= LAST_RAW else COMPRESSED
        return (word >> LENGTH_SHIFT & LENGTH_MASK) + 1, contents, codec
    if is_same_filled(word):
        return 8, SAME_FILLED, 0
    if is_foreign(word):
        return 0, FOREIGN, 0
    return 0, REFUSED if kind == STORE else HOLE, 0
