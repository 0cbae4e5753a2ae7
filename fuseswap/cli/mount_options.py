"""Options of ``mount -o`` and fstab: ours, those that mean nothing here, and all others.

What mount(8) and other file systems take is taken, since a line of fstab is copied and changed.
Unknown ones are an error, which names each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fuseswap.errors import InvalidArgument
from fuseswap.spelling import or_rather

OURS: Final = frozenset(
    {
        *("size", "pool_limit", "compressor", "transport", "resend", "name", "backing_layout"),
        "standby",
    }
)
# They are mount(8)'s own, say how often times are written, or what happens anyway.
_IGNORED = frozenset(
    {
        *("rw", "defaults", "auto", "noauto", "fail", "nofail", "user", "nouser", "users"),
        *("nousers", "owner", "noowner", "group", "nogroup", "_netdev", "suid", "nosuid", "dev"),
        *("nodev", "exec", "noexec", "atime", "noatime", "diratime", "nodiratime", "relatime"),
        *("norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "sync", "async"),
        *("dirsync", "silent", "loud", "iversion", "noiversion", "mand", "nomand", "discard"),
        *("default_permissions", "comment"),
    }
)
_ALLOW_OTHER = "allow_other changes nothing: who may use a device is root, or who mounted it"


@dataclass(frozen=True, slots=True)
class MountOptions:
    """The options of one mount; ``notes`` are for the person, a line each."""

    ours: dict[str, str]
    is_read_only: bool = False
    notes: tuple[str, ...] = ()


def parse(text: str) -> MountOptions:
    """Of ``size=2G,compressor=zstd``; raises `InvalidArgument`, which names all that is wrong."""
    ours: dict[str, str] = {}
    plain: list[str] = []
    wrong: list[str] = []
    for option in filter(None, text.split(",")):
        key, _, value = option.partition("=")
        if key in OURS and value:
            ours[key] = value
        elif key in OURS:
            wrong.append(f"mount option '{key}' needs a value: {key}=...")
        elif key in ("ro", "rw", "allow_other"):
            plain.append(key)
        elif key not in _IGNORED and not key.lower().startswith("x-"):
            wrong.append(f"unknown mount option '{option}'{or_rather(key, sorted(OURS))}")
    if wrong:
        raise InvalidArgument("; ".join(wrong))
    access = [key for key in plain if key != "allow_other"]
    return MountOptions(
        ours, access[-1:] == ["ro"], (_ALLOW_OTHER,) if "allow_other" in plain else ()
    )
