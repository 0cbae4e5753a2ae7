"""Whose segments those at a server are.

    segment    fuseswap:segment:ID:GENERATION:EXTENT      one value
    device     fuseswap:device:ID                         a hash: see ``valkey_registry.py``

No key has braces, so a cluster spreads the segments of a device over all of its masters.
ID is different for each `up` and each tier.  So a device that comes again under its name never
reads what an earlier one has left, and two tiers at one server don't meet.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import NamedTuple

PREFIX = "fuseswap"
SEGMENTS = f"{PREFIX}:segment"
DEVICES = f"{PREFIX}:device"
_OTHERS = re.compile(r"[^A-Za-z0-9_.-]+")


class Identity(NamedTuple):
    """``machine`` is a hash of the machine's id, which should not leave it."""

    id: str
    machine: str
    boot: str
    host: str
    device: str
    tier: str


def new_identity(device: str, tier: str) -> Identity:
    """For an `up`: kept with the device's configuration, the same for all of its processes."""
    machine = machine_hash()
    name = _OTHERS.sub("-", device)
    unique = f"{machine[:8]}-{name}-{tier}-{os.urandom(8).hex()}"
    return Identity(unique, machine, boot_id(), os.uname().nodename, device, tier)


def machine_hash() -> str:
    """32 hexadecimal digits."""
    try:
        with open("/etc/machine-id", "rb") as file:
            found = file.read().strip()
    except OSError:
        found = b""
    return hashlib.sha256(b"fuseswap " + (found or os.uname().nodename.encode())).hexdigest()[:32]


def boot_id() -> str:
    """Of the kernel: another one after each boot."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def segment_key(identity: str, extent: int, generation: int) -> bytes:
    """Of one segment."""
    return f"{SEGMENTS}:{identity}:{generation:x}:{extent:x}".encode()


def device_key(identity: str) -> bytes:
    """Of the hash that says who has these segments."""
    return f"{DEVICES}:{identity}".encode()


def id_of_key(key: bytes) -> str:
    """Whose segment or hash ``key`` is; the id has no colon."""
    return key.decode(errors="replace").split(":")[2]
