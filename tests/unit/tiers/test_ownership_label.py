"""The claim of a backing file: read back as written, and worth nothing beside anything else."""

from __future__ import annotations

import pytest

from fuseswap.tiers.ownership_label import (
    BOTH_ENDS_BYTES,
    END_BYTES,
    FIRST_PAGE_AT,
    Claim,
    room_bytes,
)
from fuseswap.units import MIB, PAGE_SIZE

CLAIM = Claim("swap0", 5 << 30, 0xDEADBEEF, made=True)
HEAD = CLAIM.block().ljust(END_BYTES, b"\0")
TAIL = bytes(END_BYTES)


@pytest.mark.parametrize("claim", [CLAIM, Claim("n" * 32, (1 << 64) - 1, 0, made=False)])
def test_it_is_read_back(claim: Claim) -> None:
    assert Claim.in_ends(claim.block().ljust(END_BYTES, b"\0"), TAIL) == claim


def test_it_is_in_one_sector_and_lies_where_no_page_does() -> None:
    assert len(CLAIM.block()) == PAGE_SIZE
    assert len(CLAIM.block().rstrip(b"\0")) <= 512
    assert len(CLAIM.block()) <= FIRST_PAGE_AT


@pytest.mark.parametrize("head", [b"", bytes(END_BYTES), HEAD[:20], HEAD[1:] + b"\0", b"\xff" * 99])
def test_nothing_and_a_part_is_none(head: bytes) -> None:
    assert Claim.in_ends(head, TAIL) is None


def test_any_bit_of_it_that_changes_ends_it() -> None:
    used = len(CLAIM.block().rstrip(b"\0"))
    for bit in range(8 * used):
        head = bytearray(CLAIM.block())
        head[bit // 8] ^= 1 << bit % 8
        assert Claim.in_ends(bytes(head), TAIL) is None, bit


@pytest.mark.parametrize("at", [100, 510, 512, 1024, 4086, 4096, 65536, END_BYTES - 1])
def test_anything_behind_it_ends_it(at: int) -> None:
    head = bytearray(HEAD)
    head[at] = 1
    assert Claim.in_ends(bytes(head), TAIL) is None


@pytest.mark.parametrize("at", [0, END_BYTES - 512, END_BYTES - 1])
def test_anything_in_the_last_mebibyte_ends_it(at: int) -> None:
    tail = bytearray(TAIL)
    tail[at] = 1
    assert Claim.in_ends(HEAD, bytes(tail)) is None


@pytest.mark.parametrize(
    ("size_bytes", "room"),
    [(0, 0), (MIB, 0), (2 * MIB, 0), (2 * MIB + 5000, 4096), (10 * MIB + 512, 8 * MIB)],
)
def test_room_is_whole_pages_between_the_ends(size_bytes: int, room: int) -> None:
    assert room_bytes(size_bytes) == room
    assert FIRST_PAGE_AT + room <= max(FIRST_PAGE_AT, size_bytes - END_BYTES)
    assert BOTH_ENDS_BYTES == FIRST_PAGE_AT + END_BYTES
