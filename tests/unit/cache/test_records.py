"""Records: what was written, or nothing; never something else."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from fuseswap.cache.records import CHECK_BYTES, is_sound, opened, sealed

DATA = (b"", b"a", bytes(12), random.Random(1).randbytes(40), b'{"a": "b"}' * 150)


@pytest.mark.parametrize("data", DATA, ids=len)
def test_what_was_sealed_is_opened(data: bytes) -> None:
    record = sealed(data)
    assert len(record) == len(data) + CHECK_BYTES
    assert is_sound(record)
    assert opened(record) == data


def test_zeros_are_a_record_of_zeros() -> None:
    assert opened(bytes(30)) == bytes(26)


@pytest.mark.parametrize("data", DATA[:-1], ids=len)
def test_one_bit_is_put_right(data: bytes) -> None:
    record = sealed(data)
    for bit in range(8 * len(record)):
        damaged = flipped(record, bit)
        assert not is_sound(damaged)
        assert opened(damaged) == data


def test_two_bits_are_found() -> None:
    record = sealed(DATA[2])
    for bits in combinations(range(8 * len(record)), 2):
        assert opened(flipped(record, *bits)) is None, bits


def test_in_a_long_one_as_well() -> None:
    record, chance = sealed(DATA[-1]), random.Random(2)
    for _ in range(3):
        one, two = chance.sample(range(8 * len(record)), 2)
        assert opened(flipped(record, one)) == DATA[-1]
        assert opened(flipped(record, one, two)) is None


def flipped(record: bytes, *bits: int) -> bytes:
    changed = bytearray(record)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
