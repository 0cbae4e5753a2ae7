"""What parameters of recompression set; ``parameters.py`` has the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuseswap.filesystem.parameter_values import parse_number

if TYPE_CHECKING:
    from fuseswap.filesystem.device import Device

_WEEK_S = 7 * 24 * 3600


def set_algorithm(device: Device, text: str) -> None:
    """``none`` or ``zstd[:LEVEL]``; raises `InvalidArgument`."""
    device.recompression.set_algorithm(text)
    device.evictor.recompresses = device.recompression.algorithm != "none"


def set_cpu_percent(device: Device, text: str) -> None:
    """1 to 100; raises `InvalidArgument`."""
    device.recompression.thread.cpu_percent = parse_number(text, 1, 100)


def set_age(device: Device, text: str) -> None:
    """0 to a week, in seconds; raises `InvalidArgument`."""
    device.recompression.policy.age_seconds = parse_number(text, 0, _WEEK_S)


def set_gain(device: Device, text: str) -> None:
    """0 to 100; raises `InvalidArgument`."""
    device.recompression.dictionaries.set_gain(parse_number(text, 0, 100))
