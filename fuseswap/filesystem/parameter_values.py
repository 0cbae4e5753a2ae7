"""Values of parameters, as text: read and written as the kernel's module parameters are."""

from __future__ import annotations

from fuseswap.errors import InvalidArgument
from fuseswap.spelling import is_whole


def parse_switch(text: str) -> bool:
    """Y/N, 1/0, on/off, as the kernel's module parameters take them."""
    if text.lower() in ("y", "yes", "1", "on", "true"):
        return True
    if text.lower() in ("n", "no", "0", "off", "false"):
        return False
    raise InvalidArgument(f"'{text}' is neither Y nor N")


def parse_number(text: str, least: int, most: int) -> int:
    """A decimal between ``least`` and ``most``."""
    if not is_whole(text) or not least <= int(text) <= most:
        raise InvalidArgument(f"'{text}' is not a number from {least} to {most}")
    return int(text)


def show_switch(switch: bool) -> str:
    """As `parse_switch` reads it."""
    return "Y" if switch else "N"


def show_limit(limit: int | None) -> str:
    """In bytes."""
    return "none" if limit is None else str(limit)
