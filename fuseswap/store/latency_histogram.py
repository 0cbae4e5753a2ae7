"""Histograms of how long requests took, in shared memory: a next worker goes on with them.

They lie behind the records of the header, each in a place of its own:

    place 0 to 7     what ``filesystem/latency.py`` gives them
    place 8 + N      loads from tier N

A place is 256 words of 64 bits: 224 buckets, the sum and the longest in nanoseconds, and a mark.
The mark is a checksum of what is counted and of how.  Where it is another one,
all of the place begins at 0: a tier has another name, or a fuseswap had other buckets.

Buckets are those of HdrHistogram.  There are eight to each power of two, so a percentile is
at most 12.5 % too large.  The first are 128 ns wide, and the last has all from 137 s on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from struct import Struct
from zlib import crc32

from fuseswap.units import MAX_TIERS

BUCKETS = 224
_UNIT_SHIFT = 7  # 128 ns
PLACE_BYTES = 2048
_COUNTS = Struct(f"<{BUCKETS}Q")
_TIMES = Struct("<QQ")  # sum, longest
_WORD = Struct("<Q")
_TIMES_AT = _COUNTS.size
_MARK_AT = _TIMES_AT + _TIMES.size
_LARGEST = (1 << 64) - 1
_LAYOUT = "1"  # of a place: another one begins anew
FIRST_TIER_PLACE = 8
LATENCY_BYTES = (FIRST_TIER_PLACE + MAX_TIERS) * PLACE_BYTES


def bucket_of(duration_ns: int) -> int:
    """Which bucket has ``duration_ns``."""
    units = duration_ns >> _UNIT_SHIFT
    if units < 8:
        return max(units, 0)
    power = units.bit_length() - 4
    return min((power << 3) + (units >> power), BUCKETS - 1)


def end_of(bucket: int) -> int:
    """Nanoseconds; times in ``bucket``, but the last, are shorter."""
    if bucket < 8:
        return bucket + 1 << _UNIT_SHIFT
    return (bucket & 7) + 9 << (bucket >> 3) - 1 + _UNIT_SHIFT


class LatencyHistogram:
    """The one in ``place`` of ``buffer``, which has `LATENCY_BYTES` from ``at`` on.

    ``name`` says what is counted.
    """

    def __init__(self, buffer: memoryview, at: int, place: int, name: str) -> None:
        self._buffer = buffer
        self._at = at = at + place * PLACE_BYTES
        mark = crc32(f"{_LAYOUT} {BUCKETS} {_UNIT_SHIFT} {name}".encode()) | 1 << 32
        if _WORD.unpack_from(buffer, at + _MARK_AT)[0] != mark:
            buffer[at : at + PLACE_BYTES] = bytes(PLACE_BYTES)
        # Written, so that its memory is there: no request waits for it later.
        _WORD.pack_into(buffer, at + _MARK_AT, mark)

    def add(self, duration_ns: int, count: int = 1) -> None:
        """``count`` more took so long."""
        buffer, at = self._buffer, self._at
        bucket_at = at + 8 * bucket_of(duration_ns)
        (before,) = _WORD.unpack_from(buffer, bucket_at)
        _WORD.pack_into(buffer, bucket_at, before + count)
        total, longest = _TIMES.unpack_from(buffer, at + _TIMES_AT)
        total = total + duration_ns * count & _LARGEST
        _TIMES.pack_into(buffer, at + _TIMES_AT, total, max(longest, duration_ns))

    def counts(self) -> tuple[int, ...]:
        """How many are in each bucket."""
        return _COUNTS.unpack_from(self._buffer, self._at)

    @property
    def sum_ns(self) -> int:
        """Of all of them together."""
        return int(_TIMES.unpack_from(self._buffer, self._at + _TIMES_AT)[0])

    @property
    def longest_ns(self) -> int:
        """The longest; 0: there were none."""
        return int(_TIMES.unpack_from(self._buffer, self._at + _TIMES_AT)[1])

    def below(self, *shares: float) -> list[int]:
        """At least each of ``shares`` took so many nanoseconds at most; 0: there were none."""
        seen = list(accumulate(self.counts()))
        longest_ns = self.longest_ns
        if not longest_ns:
            return [0] * len(shares)
        buckets = (bisect_left(seen, max(share * seen[-1], 1)) for share in shares)
        return [
            min(end_of(one), longest_ns) if one < BUCKETS - 1 else longest_ns for one in buckets
        ]


def below_powers(counts: Sequence[int], exponents: Iterable[int]) -> list[int]:
    """How many of ``counts`` took less than 2 to the power of each exponent, in nanoseconds."""
    seen = [0, *accumulate(counts)]
    return [seen[bucket_of(1 << exponent)] for exponent in exponents]
