"""Expressions of zram-generator, and what is none."""

from __future__ import annotations

import pytest

from fuseswap.cli.size_expression import evaluate
from fuseswap.errors import InvalidArgument
from fuseswap.units import GIB, MIB


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("4096", 4096),
        ("ram / 2", 8192),
        ("min(ram / 2, 4096)", 4096),
        ("min(0.75 * ram, 2 * 1024)", 2048),
        ("max(ram - 2^10, 0)", 15360),
        ("ceil(ram ** 0.5)", 128),
        ("-(1 - 3)", 2),
        (" 100.9 ", 100),
    ],
)
def test_it_is_in_mib_and_knows_the_memory(text: str, mib: int) -> None:
    assert evaluate(text, 16 * GIB) == mib * MIB


@pytest.mark.parametrize(
    "text",
    [
        "", "ram +", "disk / 2", "__import__('os')", "(lambda: 1)()", "ram.real", "[1][0]", "1 / 0",
        "min()", "max(*[1])", "round(ram, ndigits=1)", "True", "'4'", "9 ** 9 ** 9 ** 9", "-1",
        "1e400", "(-8) ** 0.5", "(" * 90 + "1" + ")" * 90 + " 1", "1 + " * 60 + "1", "1e30",
        "min(1 for _ in ram)", "ram if 1 else 2",
    ],
)  # fmt: skip
def test_all_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a size in MiB"):
        evaluate(text, 16 * GIB)
