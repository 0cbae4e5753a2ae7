"""Settings of the host that devices change (``up --tune``, ``--below-zswap``), put back."""

from __future__ import annotations

from fuseswap.daemon.runtime_dir import all_devices, runtime_root
from fuseswap.linux import sysctl
from fuseswap.linux.zswap import Zswap


def restore_settings() -> None:
    """Settings of vm and of zswap, where no device wants them any more."""
    alive = {device.name for device in all_devices()}
    for settings in (sysctl.Sysctl(runtime_root()), Zswap(runtime_root())):
        settings.restore(alive)
