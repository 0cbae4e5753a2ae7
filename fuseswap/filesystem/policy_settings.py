"""Which questions a policy of a plugin may be selected for: the parameters ``*_policy``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # commands read the table, and have no memory for a device
    from fuseswap.filesystem.device import Device
    from fuseswap.reclaim.policy import Choice


def _evicting(device: Device) -> Choice:
    return device.evictor.choice


def _admitting(device: Device) -> Choice:
    return device.evictor.admission


def _cleaning(device: Device) -> Choice:
    return device.cleaning.choice


def _recompressing(device: Device) -> Choice:
    return device.recompression.policy.choice


# The first part of the name, what it says, and who answers.
POLICIES: tuple[tuple[str, str, Callable[[Device], Choice]], ...] = (
    ("eviction", "Which segment leaves next; default: the oldest.", _evicting),
    ("admission", "How large pages are that leave first.", _admitting),
    ("cleaning", "Which segment is cleaned.", _cleaning),
    ("recompression", "Which segment comes first.", _recompressing),
)
