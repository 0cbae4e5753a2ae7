"""``fuseswap up`` of a device with a section in the configuration: what that says beside options.

Parameters are set once it is up.  One that is up already gets what can be changed while it runs.
"""

from __future__ import annotations

from fuseswap.cli.configured import Wanted
from fuseswap.cli.parameter_files import directory_of, set_value
from fuseswap.daemon.config import DeviceConfig
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.filesystem.parameters import find_parameter


def apply(runtime: Runtime, wanted: DeviceConfig, section: Wanted, *, was_up: bool) -> list[str]:
    """Set what can be set; returns what can't be changed in a device that was up.

    Raises `InvalidArgument` or `HostError`; who has just brought it up undoes that then.
    """
    fixed = _change(runtime, wanted) if was_up else []
    directory = directory_of(runtime.name)
    for parameter, text in section.parameters:
        set_value(directory / parameter.name, text)
    return fixed


def _change(runtime: Runtime, wanted: DeviceConfig) -> list[str]:
    """Give a device that is up what of ``wanted`` can be changed; returns what can't."""
    directory = directory_of(runtime.name)
    for name, value in (
        ("compressor", wanted.compressor),
        ("pool_limit_bytes", str(wanted.pool_limit_bytes)),
    ):
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
    )
    return [name for name, is_now, is_wanted in pairs if is_now != is_wanted]
