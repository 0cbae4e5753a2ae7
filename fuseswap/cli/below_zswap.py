"""``fuseswap up --below-zswap``: zswap in front of the device that has just come up."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from fuseswap.daemon.runtime_dir import Runtime, all_devices, runtime_root
from fuseswap.daemon.take_down import down
from fuseswap.errors import HostError
from fuseswap.linux.zswap import Zswap

_UNASKED = (
    "zswap stands in front of this swap, which gets what it hands down; compress that harder with "
    "--below-zswap, or switch zswap off"
)


def percent(text: str) -> int:
    """The option's value: a whole number from 1 on."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a percentage (a NAME stands before --below-zswap)"
        )
    return int(text)


def put_below(
    runtime: Runtime, *, was_up: bool, take_down: Callable[[], None] | None = None
) -> str | None:
    """Put zswap in front where the device was asked for it; a note where it is there unasked.

    As the device was asked for when it came up: a later `up` only repeats it.  Raises `HostError`
    where zswap refuses; then a new device is down again.  The device's lock is held.  Of a set
    ``runtime`` is the first stripe, and ``take_down`` undoes all of it.
    """
    front = Zswap(runtime_root())
    wanted = runtime.config().below_zswap
    if not wanted:
        return None if was_up or not front.is_on else _UNASKED
    try:
        front.put_in_front(runtime.name, wanted)
    except HostError:
        if not was_up:
            (take_down or (lambda: down(runtime)))()
            front.restore({device.name for device in all_devices()})
        raise
    return None
