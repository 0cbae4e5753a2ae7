"""Records: what was written, or nothing; never something else."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from fuseswap.store.checked_record import CHECK_BYTES, opened, sealed

DATA = (b"", b"a", bytes(12), random.Random(1).randbytes(40), b'{"a": "b"}' * 150)


@pytest.mark.parametrize("data", DATA, ids=len)
def test_what_was_sealed_is_opened(data: bytes) -> None:
    record = sealed(data)
    assert len(record) == len(data) + CHECK_BYTES
    assert opened(record) == data


def test_zeros_are_a_record_of_zeros() -> None:
    assert opened(bytes(30)) == bytes(26)


@pytest.mark.parametrize("data", DATA, ids=len)
def test_any_bit_that_turns_over_is_found(data: bytes) -> None:
    record = sealed(data)
    for bit in range(8 * len(record)):
        assert opened(flipped(record, bit)) is None


def test_any_two_bits_are_found() -> None:
    record = sealed(DATA[2])
    for bits in combinations(range(8 * len(record)), 2):
        assert opened(flipped(record, *bits)) is None, bits


def flipped(record: bytes, *bits: int) -> bytes:
    changed = bytearray(record)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
