"""``fuseswap mount``: what ``mount -t fuseswap BACKING DIR -o ...`` runs (``mount.fuseswap``)."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from fuseswap.cli import mount_options
from fuseswap.daemon import bring_up, config, device_info
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError, InvalidArgument, MountFailed
from fuseswap.linux import mount, swap_area, trusted_file
from fuseswap.linux.ending import Undo


def add_to(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "mount",
        help="mount the file system alone, without loop device and swap",
        description="Mount the file system alone, as mount.fuseswap does.",
        epilog="options: " + ", ".join(sorted(mount_options.OURS)),
    )
    parser.add_argument(
        "backing", metavar="BACKING", help="file or block device for cold pages, or 'none'"
    )
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument(
        "-o", dest="options", action="append", default=[], metavar="OPT[=VALUE],..."
    )
    for flag in ("-f", "-n", "-s", "-v"):  # what mount(8) hands to every helper
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-t", dest="fstype", help=argparse.SUPPRESS)
    parser.add_argument("-N", dest="namespace", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Mount and return once the file system answers."""
    asked = mount_options.parse(",".join(options.options))
    chosen = asked.ours
    if asked.is_read_only and os.geteuid() != 0:
        raise InvalidArgument("the mount option 'ro' needs root")
    for note in asked.notes:
        print(f"fuseswap: {note}", file=sys.stderr)
    mountpoint = os.path.realpath(options.directory)
    if not options.directory or not Path(mountpoint).is_dir():
        raise MountFailed(f"'{options.directory}' is not a directory")
    runtime = Runtime(chosen.get("name", _name_for(mountpoint)))
    wanted = config.DeviceConfig.parse(
        name=runtime.name,
        size=chosen.get("size", config.DEFAULT_SIZE),
        pool_limit=chosen.get("pool_limit", config.DEFAULT_POOL_LIMIT),
        compressor=chosen.get("compressor", config.DEFAULT_COMPRESSOR),
        transport=chosen.get("transport", config.DEFAULT_TRANSPORT),
        mountpoint=mountpoint,
        priority=config.DEFAULT_PRIORITY,
        backing="none" if options.backing == "fuseswap" else options.backing,
        resend=chosen.get("resend", config.DEFAULT_RESEND),
        backing_layout=chosen.get("backing_layout", config.DEFAULT_LAYOUT),
        standby=_on_off(chosen, "standby"),
        memory_bytes=swap_area.memory_bytes(),
    )
    if os.geteuid() == 0:
        _refuse_a_strangers(options.directory)
    if options.f:  # fake: all but the mounting
        return 0
    with runtime.lock(), Undo() as undo:
        if device_info.is_up(runtime):
            raise MountFailed(f"there is a device '{runtime.name}' already")
        bring_up.start_filesystem(runtime, wanted, undo)
        if asked.is_read_only:
            mount.make_read_only(mountpoint)
    return 0


def _refuse_a_strangers(directory: str) -> None:
    """Root mounts where no other user can exchange a step of the way.  Raises `MountFailed`."""
    try:
        trusted_file.check(directory)  # and its links, whose owner may change them
    except HostError as exc:
        raise MountFailed(str(exc)) from exc
    except OSError as exc:
        raise MountFailed(f"{directory}: {exc.strerror}") from exc


def _on_off(chosen: dict[str, str], key: str) -> bool:
    value = chosen.get(key, "on")
    if value not in ("on", "off"):
        raise InvalidArgument(f"{key}={value}: use on or off")
    return value == "on"


def _name_for(mountpoint: str) -> str:
    """A device name from a path: /mnt/swap becomes mnt-swap."""
    return mountpoint.strip("/").replace("/", "-")[-32:].lstrip("-_.") or "root"
