"""``fuseswap up`` of a device with a section in the configuration: what that says beside options.

Parameters are set once it is up.  One that is up already gets what can be changed while it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection

from fuseswap.cli.configured import Wanted
from fuseswap.cli.parameter_files import directory_of, set_value
from fuseswap.daemon.config import DeviceConfig
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.filesystem.parameters import find_parameter


def named_options(
    options: argparse.Namespace, plain: argparse.Namespace, section: Wanted
) -> set[str]:
    """Options that the section has, or the command line; ``plain``: without any."""
    found = {word[2:].partition("=")[0] for word in section.words if word.startswith("--")}
    before = vars(plain)
    return found | {
        name.replace("_", "-")
        for name, value in vars(options).items()
        if name in before and not callable(value) and value != before[name]
    }


def apply(
    runtime: Runtime,
    wanted: DeviceConfig,
    section: Wanted,
    named: Collection[str],
    *,
    was_up: bool,
) -> list[str]:
    """Set what can be set; returns what can't be changed in a device that was up.

    Of one that was up nothing changes that is not ``named``: a parameter that was set since holds.
    Raises `InvalidArgument` or `HostError`; who has just brought it up undoes that then.
    """
    fixed = _change(runtime, wanted, named) if was_up else []
    directory = directory_of(runtime.name)
    for parameter, text in section.parameters:
        set_value(directory / parameter.name, text)
    return fixed


def _change(runtime: Runtime, wanted: DeviceConfig, named: Collection[str]) -> list[str]:
    """Give a device that is up what of ``wanted`` can be changed; returns what can't."""
    directory = directory_of(runtime.name)
    for option, name, value in (
        ("compressor", "compressor", wanted.compressor),
        ("pool-limit", "pool_limit_bytes", str(wanted.pool_limit_bytes)),
    ):
        if option in named:
            set_value(directory / find_parameter(name).name, value)
    running = runtime.config()
    pairs = (
        ("size", running.size_bytes, wanted.size_bytes),
        ("transport", running.transport, wanted.transport),
        ("backing-layout", running.backing_layout, wanted.backing_layout),
        ("resend", running.resend, wanted.resend),
        ("watchdog", running.watchdog_s, wanted.watchdog_s),
        ("seccomp", running.seccomp, wanted.seccomp),
        ("below-zswap", running.below_zswap, wanted.below_zswap),
        ("standby", running.standby, wanted.standby),
    )
    return [name for name, is_now, is_wanted in pairs if name in named and is_now != is_wanted]
