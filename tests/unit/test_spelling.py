"""What was meant by a word that is none."""

from __future__ import annotations

import pytest

from fuseswap.spelling import closest, or_rather

KNOWN = ("NAME", "compressor", "status", "--size")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("compresor", "compressor"),
        ("statsu", "status"),
        ("--siez", "--size"),
        ("name", "NAME"),
        ("x", None),
        ("", None),
    ],
)
def test_the_closest(word: str, meant: str | None) -> None:
    assert closest(word, KNOWN) == meant


def test_all_are_named_where_none_is_close() -> None:
    assert or_rather("statsu", KNOWN) == "; did you mean 'status'?"
    assert or_rather("x", KNOWN) == "; there are: NAME, compressor, status, --size"
    assert or_rather("x", []) == "; there are: none"
