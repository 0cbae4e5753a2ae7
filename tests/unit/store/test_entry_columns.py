"""Entries by columns: the same as one by one, whatever they hold."""

from __future__ import annotations

import random
from array import array

from fuseswap.store.entry_columns import EntryColumns
from fuseswap.store.segment_entry import (
    Mark,
    SegmentState,
    Stream,
    entry_word,
    is_sound,
    location_bits,
    stream_and_marks,
)
from fuseswap.units import MAX_EXTENTS, Location

FIRST = 7


def _words(chance: random.Random, count: int) -> list[int]:
    """Sound words of every state, stream, mark and place."""
    words = []
    for _ in range(count):
        state = chance.choice(list(SegmentState))
        stream = chance.choice(list(Stream)) | chance.choice((0, Mark.TRIED, Mark.SHARED))
        place = Location(chance.choice((0, 0, 1, 255)), chance.randrange(MAX_EXTENTS))
        where = location_bits(place if state == SegmentState.ON_TIER else chance.randrange(99))
        words.append(entry_word(state, stream, where) if state else 0)
    return words


def _columns(words: list[int]) -> EntryColumns:
    entries = [number for n, word in enumerate(words) for number in (word, 0, 3 * n % 50, 0)]
    return EntryColumns(FIRST, array("Q", entries).tobytes())


def _ids(words: list[int], state: SegmentState) -> list[int]:
    return [n for n, word in enumerate(words, FIRST) if word & 0xFF == state]


def _marked(flags: bytes) -> list[int]:
    return [n for n, flag in enumerate(flags, FIRST) if flag]


def test_of_sound_entries_none_is_unsound_and_each_is_where_it_is() -> None:
    words = _words(random.Random(1), 700)
    columns = _columns(words)
    assert columns.unsound() == []
    assert columns.free() == _ids(words, SegmentState.FREE)
    assert list(columns.lost()) == _ids(words, SegmentState.LOST)
    in_frames = _ids(words, SegmentState.OPEN) + _ids(words, SegmentState.SEALED)
    assert list(columns.in_frames()) == sorted(in_frames)
    marked = [n for n, word in enumerate(words, FIRST) if stream_and_marks(word) & Mark.SHARED]
    assert list(columns.shared()) == marked
    assert columns.tried_count() == sum(stream_and_marks(w) & Mark.TRIED != 0 for w in words)
    assert columns.newest_sequence() == 49
    found = {
        segment: (tier, extent)
        for tier, flags, extents in columns.on_tiers()
        for segment, extent in zip(_marked(flags), extents, strict=True)
    }
    assert found == {
        n: (words[n - FIRST] >> 56, words[n - FIRST] >> 32 & MAX_EXTENTS - 1)
        for n in _ids(words, SegmentState.ON_TIER)
    }


def test_each_flipped_bit_and_each_pair_of_them_is_found() -> None:
    chance = random.Random(2)
    sound = _words(chance, 40)
    words = sound + [chance.choice(sound) ^ 1 << bit for bit in range(64)]
    words += [chance.choice(sound) ^ 1 << a ^ 1 << b for a in range(64) for b in range(a)]
    words += [chance.getrandbits(64) for _ in range(300)]
    wanted = [n for n, word in enumerate(words, FIRST) if not is_sound(word)]
    assert len(wanted) > 2000
    assert _columns(words).unsound() == wanted
