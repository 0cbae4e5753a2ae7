"""A column of numbers: as a list of zeros, and memory only where it was written."""

from __future__ import annotations

import mmap
import random
from pathlib import Path

import pytest

from fuseswap.laboratory.page_column import PageColumn
from fuseswap.units import MIB


@pytest.mark.parametrize("code", ["H", "Q"])
def test_it_is_like_a_list(code: str) -> None:
    chance, count = random.Random(7), 20_000
    column, expected = PageColumn(count, code), [0] * count
    for _ in range(300):
        at = chance.randrange(count)
        for page in range(at, min(at + 50, count)):
            column.numbers[page] = expected[page] = chance.randrange(1, 1 << 16)
        first = chance.randrange(count)
        size = min(chance.choice((1, 7, 600, 9000)), count - first)
        column.clear(first, size)
        expected[first : first + size] = [0] * size
    assert list(column.numbers) == expected


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_a_terabyte_of_pages_takes_memory_where_there_are_some() -> None:
    before = resident_bytes()
    column = PageColumn(1 << 28, "Q")
    for page in range(0, 1 << 28, 1 << 20):
        column.numbers[page] = 1
    assert resident_bytes() - before < 2 * MIB
    for page in range(4 * MIB):
        column.numbers[page] = page
    assert resident_bytes() - before > 30 * MIB
    column.clear(0, 4 * MIB)
    assert resident_bytes() - before < 2 * MIB
    assert column.numbers[1 << 20] == 0
