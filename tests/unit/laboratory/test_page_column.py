"""A column of numbers: as a list of zeros, and memory only where it was written."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from fuseswap.laboratory.page_column import PageColumn


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


# In a process of its own: other tests lock the memory of theirs, and that is not given back.
LARGE = """
from pathlib import Path
from fuseswap.laboratory.page_column import PageColumn

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) >> 8

before = resident_mib()
column = PageColumn(1 << 28, "Q")
for page in range(0, 1 << 28, 1 << 20):
    column.numbers[page] = 1
few = resident_mib() - before
for page in range(4 << 20):
    column.numbers[page] = page
many = resident_mib() - before
column.clear(0, 4 << 20)
print(few, many, resident_mib() - before)
"""


def test_a_terabyte_of_pages_takes_memory_where_there_are_some() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, check=True, timeout=60
    )
    few, many, cleared = map(int, done.stdout.split())
    assert few < 3
    assert many > 30
    assert cleared < 3
