"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseswap.errors import InvalidArgument
from fuseswap.sizes import format_size, parse_size
from fuseswap.units import GIB, KIB, MIB


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("512B", 512),
        ("1k", KIB),
        ("512M", 512 * MIB),
        (" 2G\n", 2 * GIB),
        ("1.5G", GIB + GIB // 2),
        ("2 GiB", 2 * GIB),
        ("1T", 1 << 40),
        ("1P", 1 << 50),
    ],
)
def test_sizes_are_powers_of_1024(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "M", "-1", "1E", "1,5G", "0x10", "1MB", "1 2", "1.G", ".5G", "nan", "inf", "25%"]
)
def test_anything_else_is_an_error_that_names_an_example(text: str) -> None:
    with pytest.raises(InvalidArgument, match="512M"):
        parse_size(text)


@pytest.mark.parametrize(("text", "size_bytes"), [("25%", 250), ("100%", 1000), ("0.5%", 5)])
def test_percentages_where_allowed(text: str, size_bytes: int) -> None:
    assert parse_size(text, percent_of=1000) == size_bytes
    assert parse_size("7", percent_of=1000) == 7


@pytest.mark.parametrize("text", ["0%", "-1%", "101%", "%", "x%", "nan%", "inf%"])
def test_bad_percentages(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_size(text, percent_of=1000)


def test_a_size_beyond_all_bounds_is_an_error_like_any_other() -> None:
    with pytest.raises(InvalidArgument):
        parse_size("9" * 400)


def test_a_whole_number_of_bytes_is_exact() -> None:
    assert parse_size("9007199254740993") == 9007199254740993


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (KIB, "1K"),
        (1536, "1.5K"),
        (512 * MIB, "512M"),
        (2 * GIB, "2G"),
        (5 << 40, "5T"),
        (5000 << 40, "5000T"),
        (-KIB, "-1K"),
    ],
)
def test_sizes_are_written_as_util_linux_does(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@given(st.integers(0, 1 << 50))
def test_what_is_written_can_be_read_and_is_close(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == pytest.approx(size_bytes, rel=0.06)
