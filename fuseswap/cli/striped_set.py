"""Parameters of a set of stripes: the pool limit is that of all, others are set on each."""

from __future__ import annotations

import sys

from fuseswap.cli.parameter_files import directory_of, set_value
from fuseswap.daemon import stripe_configs
from fuseswap.daemon.stripe_set import StripeSet
from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.parameters import MIN_POOL_LIMIT_BYTES
from fuseswap.sizes import format_size, parse_size
from fuseswap.units import MIB

LIMIT = "pool_limit_bytes"
SHARED = ("writeback_limit_bytes",)  # each stripe has its part


def set_on_all(found: StripeSet, name: str, value: str) -> None:
    """Set one parameter.  Raises `InvalidArgument` or `HostError`."""
    stripes = found.stripes()
    if name == LIMIT:
        _set_limit(found, parse_size(value), len(stripes))
        return
    if name in SHARED and value != "none":
        value = stripe_configs.part_of(value, len(stripes))
    for stripe in stripes:
        set_value(directory_of(stripe.name) / name, value)


def _set_limit(found: StripeSet, limit_bytes: int, count: int) -> None:
    least = count * MIN_POOL_LIMIT_BYTES
    if limit_bytes < least:
        raise InvalidArgument(f"{LIMIT} of {count} stripes is at least {least}")
    if not found.set_limit(limit_bytes // MIB):
        wanted = format_size(limit_bytes)
        text = f"note: {found.name} holds more than {wanted} still; it goes down to that"
        print(text, file=sys.stderr)
