"""Sizes in the words people use for them.

Sizes on the command line follow util-linux: ``512M``, ``2G``, ``1.5G`` are powers of
1024.  A plain number is bytes; ``25%`` (where allowed) is of the machine's RAM.
"""

from __future__ import annotations

import math
import re

from fuseswap.errors import InvalidArgument
from fuseswap.spelling import is_whole
from fuseswap.units import GIB, KIB, MIB

_SUFFIXES = {"": 1, "B": 1, "K": KIB, "M": MIB, "G": GIB, "T": 1 << 40, "P": 1 << 50}
# [0-9], since \d is every script's digits, and so are `float` and `isdecimal`.
_DECIMAL = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")
_SIZE = re.compile(rf"({_DECIMAL.pattern})\s*([BKMGTP]?)(?:iB)?", re.IGNORECASE | re.ASCII)


def parse_size(text: str, percent_of: int | None = None) -> int:
    """Turn ``512M``, ``1.5G``, ``4096`` or (with ``percent_of``, bytes) ``25%`` into bytes.

    Raises `InvalidArgument` for anything else.
    """
    text = text.strip()
    if percent_of is not None and text.endswith("%"):
        percent = decimal_or_nan(text[:-1].rstrip())
        if not 0 < percent <= 100:
            raise InvalidArgument(f"'{text}' is not a percentage between 0 and 100")
        return int(percent_of * percent / 100)
    match = _SIZE.fullmatch(text)
    if match is None:
        example = "512M, 2G" if percent_of is None else "512M, 2G or 25%"
        raise InvalidArgument(f"'{text}' is not a size; write it like {example}")
    whole, _, decimals = match[1].partition(".")
    return int(whole + decimals) * _SUFFIXES[match[2].upper()] // int("1" + "0" * len(decimals))


def parse_whole(text: str) -> int:
    """A whole number, which may be below 0.  Raises `InvalidArgument`."""
    if not is_whole(text.removeprefix("-")):
        raise InvalidArgument(f"'{text}' is not a whole number")
    return int(text)


def decimal_or_nan(text: str) -> float:
    """A number of 0 or more, as 2 or 0.5; anything else is between no two numbers."""
    return float(text) if _DECIMAL.fullmatch(text) else math.nan


def format_size(size_bytes: int) -> str:
    """Write ``size_bytes`` as util-linux does: at most one decimal, power of 1024."""
    size = float(size_bytes)
    for suffix in ("B", "K", "M", "G", "T"):
        if abs(size) < 1024 or suffix == "T":
            break
        size /= 1024
    text = f"{size:.1f}".removesuffix(".0")
    return text + suffix
