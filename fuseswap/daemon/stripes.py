"""Bring all stripes of a set up, or down.  Called by commands, with the set's lock held.

    up     table -> each stripe without swap -> swap of each, with one priority
    down   room for all -> each stripe, the last one first

Where one stripe does not come up none stays.  The swap of all begins last, so there are no pages
yet when most goes wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

from fuseswap.daemon import memory_limits
from fuseswap.daemon.bring_up import take_back, up
from fuseswap.daemon.config import DeviceConfig
from fuseswap.daemon.device_info import DeviceInfo, is_up, loop_of
from fuseswap.daemon.processes import wake
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.stripe_set import StripeSet
from fuseswap.daemon.switch_off import require_room, room_made
from fuseswap.daemon.take_down import down
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux import mount, swap_area
from fuseswap.linux.ending import Undo
from fuseswap.units import MIB


def are_up(found: StripeSet) -> bool:
    """Whether every stripe is mounted."""
    return found.exists() and all(map(is_up, found.stripes()))


def up_all(
    found: StripeSet, configs: Sequence[DeviceConfig], limit_bytes: int, *, swapon: bool
) -> list[DeviceInfo]:
    """Everything that is not up already.  One that fails leaves nothing behind.

    Raises `HostError`, `InvalidArgument`.
    """
    alone = Runtime(found.name)
    if alone.exists() or mount.is_mounted(str(alone.default_mountpoint)):
        raise HostError(f"{found.name} is up without stripes; first: fuseswap down {found.name}")
    if are_up(found):
        stripes = found.stripes()
        if len(stripes) != len(configs):
            raise InvalidArgument(f"{found.name} has {len(stripes)} stripes until it goes down")
        with Undo() as undo:
            return _each(stripes, configs, undo, swapon=swapon)
    if any(map(_swap_of, found.left())):
        raise HostError(f"{found.name} lacks a stripe; first: fuseswap down {found.name}")
    _take_all_back(found)
    memory_limits.require(limit_bytes, stripes=len(configs))
    with Undo() as undo:
        undo.add(partial(_take_all_back, found))
        found.create(len(configs), limit_bytes // MIB)
        stripes = found.stripes()
        infos = _each(stripes, configs, undo, swapon=False)
        return _each(stripes, configs, undo, swapon=True) if swapon else infos


def _each(
    stripes: Sequence[Runtime], configs: Sequence[DeviceConfig], undo: Undo, *, swapon: bool
) -> list[DeviceInfo]:
    infos = []
    for stripe, config in zip(stripes, configs, strict=True):
        with stripe.lock():
            infos.append(up(stripe, config, undo, swapon=swapon))
    return infos


def _swap_of(stripe: Runtime) -> swap_area.SwapArea | None:
    device = loop_of(stripe)
    return swap_area.area_of(device) if device else None


def _take_all_back(found: StripeSet) -> None:
    for stripe in reversed(found.left()):
        with stripe.lock():
            take_back(stripe)
    if found.exists() and not found.left():
        found.remove()


def down_all(found: StripeSet) -> None:
    """Take each stripe down.  Safe to repeat.

    Raises `HostError`, and has changed nothing where what is swapped to all does not fit.
    """
    stripes = found.left()
    loops = [device for device in map(loop_of, stripes) if device]
    with _room_for(found.name, stripes, loops):
        for stripe in reversed(stripes):
            wake(stripe)  # an orphan that notes itself has the lock, and may have been stopped
            with stripe.lock():
                down(stripe)
            found.release(stripe.stripe)
    found.remove()


@contextlib.contextmanager
def _room_for(name: str, stripes: Sequence[Runtime], loops: Sequence[str]) -> Iterator[None]:
    """As `switch_off`, for all at once: what leaves one stripe must not go to the next."""
    with contextlib.ExitStack() as stack:
        if swap_area.shortage_bytes(*loops):
            for stripe in stripes:
                stack.enter_context(room_made(stripe))
            require_room(name, *loops)
        yield
