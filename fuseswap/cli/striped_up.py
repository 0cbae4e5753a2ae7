"""``fuseswap up --stripes N``: one name, and a worker and a loop device for each stripe."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from functools import partial
from typing import Any

from fuseswap.cli import below_zswap, configured
from fuseswap.cli.configured import Wanted
from fuseswap.cli.striped_set import LIMIT, set_on_all
from fuseswap.cli.up import NOTIFY_TIMEOUT_S, config_of, notes_of, require_root
from fuseswap.daemon import memory_limits, stripe_configs, stripes
from fuseswap.daemon.config import DeviceConfig
from fuseswap.daemon.runtime_dir import MAX_STRIPES, Runtime, runtime_root
from fuseswap.daemon.stripe_set import StripeSet, find_set
from fuseswap.errors import FuseswapError, InvalidArgument
from fuseswap.filesystem.parameters import MIN_POOL_LIMIT_BYTES
from fuseswap.linux import sd_notify, swap_area, sysctl
from fuseswap.linux.zswap import Zswap
from fuseswap.sizes import format_size, parse_size
from fuseswap.units import MIB, PAGE_SIZE


def count_of(options: argparse.Namespace) -> int:
    """How many stripes are asked for, or are there; 0: a device without.

    Raises `InvalidArgument`.
    """
    if Runtime(options.name).set_name is not None:
        raise InvalidArgument(f"'{options.name}' is a stripe; bring up the set it is of")
    found = find_set(options.name)
    if options.stripes is None:
        return len(found.stripes()) if found else 0
    if not 1 <= options.stripes <= MAX_STRIPES:
        raise InvalidArgument(f"--stripes {options.stripes} is not between 1 and {MAX_STRIPES}")
    return options.stripes if options.stripes > 1 or found else 0


def run(options: argparse.Namespace, count: int) -> int:
    """Bring ``count`` stripes up; a set that is up already is described and left alone."""
    section = configured.section_of(options.name)
    if section and section.skipped:
        print(f"{options.name} is left out: {section.skipped}")
        return 0
    found = StripeSet(options.name)
    total_bytes = swap_area.memory_bytes()
    limit_bytes = parse_size(options.pool_limit, percent_of=total_bytes)
    if limit_bytes < count * MIN_POOL_LIMIT_BYTES:
        least = format_size(count * MIN_POOL_LIMIT_BYTES)
        raise InvalidArgument(f"{count} stripes need a pool limit of {least} at least")
    limit_bytes -= limit_bytes % MIB
    configs = [_config(options, number, count, total_bytes) for number in range(count)]
    if configs[0].below_zswap:
        Zswap(runtime_root()).require()
    require_root("'up' (loop devices and swapon)")
    socket = os.environ.pop(sd_notify.SOCKET, None)  # descriptors of all would have the same names
    sd_notify.stored()
    with found.lock():
        was_up = stripes.are_up(found)
        infos = stripes.up_all(found, configs, limit_bytes, swapon=not options.no_swapon)
        if section:
            _apply(found, section, configs[0], limit_bytes, was_up=was_up)
        if options.notify and socket:
            os.environ[sd_notify.SOCKET] = socket
            ready = ("READY=1", f"MAINPID={infos[0].supervisor_pid}")
            sd_notify.notify(*ready, timeout_s=NOTIFY_TIMEOUT_S)
        pools_bytes = limit_bytes + total_bytes * configs[0].below_zswap // 100
        notes = [] if was_up else [memory_limits.crowding(pools_bytes, total_bytes, count)]
        if options.tune != "off" and not options.no_swapon:
            settings = sysctl.recommended(total_bytes, thorough=options.tune == "on")
            notes.append(sysctl.Sysctl(runtime_root()).tune(infos[0].name, settings))
        if not options.no_swapon:
            first = found.stripes()[0]
            undo = partial(stripes.down_all, found)
            notes.append(below_zswap.put_below(first, was_up=was_up, take_down=undo))
    size_bytes = sum(info.size_bytes for info in infos)
    if options.json:
        described = {"name": found.name, "size_bytes": size_bytes}
        print(json.dumps({**described, "stripes": [asdict(info) for info in infos]}))
    else:
        what = "is up already" if was_up else "is up"
        loops = ", ".join(str(info.loop) for info in infos)
        print(f"{found.name} {what}: {format_size(size_bytes)} on {loops}")
    for stripe in found.stripes():
        notes += notes_of(stripe, was_up=was_up)
    for note in dict.fromkeys(filter(None, notes)):
        print(f"note: {note}", file=sys.stderr)
    return 0


def _apply(
    found: StripeSet, section: Wanted, config: DeviceConfig, limit_bytes: int, *, was_up: bool
) -> None:
    """Set what the configuration files say; a set that has just come up is down again else.

    Raises `InvalidArgument` or `HostError`.
    """
    try:
        if was_up:
            set_on_all(found, "compressor", config.compressor)
            set_on_all(found, LIMIT, str(limit_bytes))
        for parameter, text in section.parameters:
            set_on_all(found, parameter.name, text)
    except FuseswapError:
        if not was_up:
            stripes.down_all(found)
        raise


def _config(
    options: argparse.Namespace, stripe: int, count: int, memory_bytes: int
) -> DeviceConfig:
    each: dict[str, Any] = dict(vars(options))
    pool_bytes = parse_size(options.pool_limit, percent_of=memory_bytes) // count
    size_bytes = parse_size(options.size) // count
    each.update(
        name=f"{options.name}/{stripe}",
        size=str(size_bytes - size_bytes % PAGE_SIZE),
        pool_limit=str(pool_bytes - pool_bytes % MIB),
        backing=stripe_configs.backing_of(options.backing, stripe),
        tier=[stripe_configs.tier_of(text, stripe, count) for text in options.tier],
        raw=stripe_configs.parts_of(options.raw, count, memory_bytes),
    )
    return config_of(argparse.Namespace(**each), memory_bytes)
