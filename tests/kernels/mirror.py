"""The Debian mirror of this machine, read from its own apt sources."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_SOURCES = Path("/etc/apt")
_DEBIAN = re.compile(r"(?:https?|file)://\S+?/debian/?(?=\s|$)")


class NoMirror(Exception):
    """The apt sources of this machine name no Debian mirror."""


def mirror(directory: Path = _SOURCES) -> str:
    """Address of the first Debian mirror in the sources; raises `NoMirror`."""
    files = [
        directory / "sources.list",
        *sorted((directory / "sources.list.d").glob("*.list")),
        *sorted((directory / "sources.list.d").glob("*.sources")),
    ]
    for file in files:
        if file.exists() and (found := first_mirror(file.read_text().splitlines())):
            return found
    raise NoMirror(f"{directory} names no Debian mirror; kernels are Debian's")


def first_mirror(lines: Iterable[str]) -> str | None:
    """In lines of the one-line style or of deb822: both have the address as a word."""
    for line in lines:
        text = line.partition("#")[0].strip()
        if text.startswith(("deb ", "deb\t", "URIs:", "uris:")) and (found := _DEBIAN.search(text)):
            return found[0].rstrip("/")
    return None
