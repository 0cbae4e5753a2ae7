"""What each stripe of a set is asked to be: its part of what the set was asked for.

Sizes are shared out: of the swap, the pool, raw memory, and a tier's ``limit`` and ``size``.  Each
stripe has a place of its own for cold pages.  ``{stripe}`` in a path stands for its number.  A file
without it gets the number at its end, as ``/var/swap.0``.  Servers know stripes by name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from fuseswap.daemon.remote_files import REMOTE_KINDS
from fuseswap.errors import InvalidArgument
from fuseswap.sizes import parse_size
from fuseswap.tiers.tier_spec import (
    FILE,
    MIRROR,
    NEXT_PART,
    kind_of,
    parse_backing,
    split_options,
)

PLACE = "{stripe}"
_SIZES = ("limit", "size")


def part_of(size: str, count: int, percent_of: int = 0) -> str:
    """Of a size in text, for one of ``count`` stripes; ``percent_of`` as for `parse_size`."""
    return str(parse_size(size, percent_of=percent_of or None) // count)


def parts_of(sizes: Sequence[str], count: int, percent_of: int) -> list[str]:
    """As `part_of`, of each."""
    return [part_of(size, count, percent_of) for size in sizes]


def backing_of(text: str, stripe: int) -> str:
    """``--backing`` of one stripe.  Raises `InvalidArgument`."""
    if text == "none":
        return text
    path, _ = parse_backing(text)
    return _file_of(path, stripe) + text[len(path) :]


def tier_of(text: str, stripe: int, count: int) -> str:
    """The description of a tier for one of ``count`` stripes.  Raises `InvalidArgument`."""
    whole, options = split_options(text)
    kind, rest = kind_of(whole, text)
    if kind == MIRROR:
        rest = "+".join(_place_of(*kind_of(part, part), stripe) for part in NEXT_PART.split(rest))
        place = f"{kind}:{rest}"
    else:
        place = _place_of(kind, rest, stripe)
    shared = {
        key: part_of(value, count) if key in _SIZES and value != "none" else value
        for key, value in options.items()
    }
    return ",".join([place, *(f"{key}={value}" for key, value in shared.items())])


def _place_of(kind: str, rest: str, stripe: int) -> str:
    if kind in REMOTE_KINDS:
        return f"{kind}:{rest}"
    if kind != FILE and PLACE not in rest:
        raise InvalidArgument(
            f"stripes can't share {kind}:{rest}; write {PLACE} where the number of each belongs"
        )
    return f"{kind}:{_file_of(rest, stripe)}"


def _file_of(path: str, stripe: int) -> str:
    if PLACE in path:
        return path.replace(PLACE, str(stripe))
    if os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode):
        raise InvalidArgument(
            f"stripes can't share {path}; write {PLACE} where the number of each belongs"
        )
    return f"{path}.{stripe}"
