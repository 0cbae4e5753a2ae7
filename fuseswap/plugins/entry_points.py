"""Plugins: codecs, backends, tiers and policies of other packages, found by their entry points.

    [project.entry-points."fuseswap.codecs"]
    deflate = "my_package:Deflate"

The name of the entry point is the name people type.  It leads to a class, which is called without
arguments (codecs, policies) or as ``docs/plugins.md`` says.  A plugin is imported only when it
is loaded.  An error of it is then a `HostError` of one line that names the package.

A worker loads plugins before its memory is locked.  ``importlib.metadata`` takes 1.5 MB there, so
it is imported only where a package on the path has such an entry point at all.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from fuseswap.errors import HostError, reason_of

log = logging.getLogger(__name__)

T = TypeVar("T")

# The methods that each kind has; of a policy one is enough.
METHODS = {
    "codec": ("compressor", "decompressor"),
    "backend": ("put", "get", "drop", "adopt"),
    "tier": ("write", "read", "release"),
    "policy": ("evict_which", "spares", "recompress_which", "clean_which", "largest_kept"),
}
_GROUPS = {
    "fuseswap.codecs": "codec",
    "fuseswap.backends": "backend",
    "fuseswap.tiers": "tier",
    "fuseswap.policies": "policy",
}
_METADATA = (".dist-info", ".egg-info")


class Plugin(NamedTuple):
    """One entry point, and the package that has it."""

    kind: str  # codec, backend, tier, policy
    name: str
    target: str  # MODULE:CLASS
    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' ({self.package} {self.version})"

    def load(self) -> Any:
        """Its class; raises `HostError`."""
        module, _, attributes = self.target.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for attribute in filter(None, attributes.split(".")):
                found = getattr(found, attribute)
        except BaseException as exc:  # of other people's modules, whatever it is
            raise self._no(reason_of(exc)) from None
        if not isinstance(found, type):
            raise self._no(f"{self.target} is no class")
        methods = METHODS[self.kind]
        missing = [name for name in methods if not callable(getattr(found, name, None))]
        if len(missing) == len(methods) or (missing and self.kind != "policy"):
            raise self._no(f"{self.target} has no method '{missing[0]}'")
        return found

    def make(self) -> Any:
        """An object of it, made without arguments; raises `HostError`."""
        found = self.load()
        try:
            return found()
        except BaseException as exc:
            raise self._no(reason_of(exc)) from None

    def _no(self, reason: str) -> HostError:
        return HostError(f"{self} does not load: {reason}")


def find(*kinds: str) -> list[Plugin]:
    """What there is, of ``kinds`` or of all, by kind and name; imports nothing of it."""
    if not _is_any_on_path():
        return []
    from importlib import metadata

    found = set()
    for group, kind in _GROUPS.items():
        if kinds and kind not in kinds:
            continue
        for entry in metadata.entry_points(group=group):
            about = entry.dist
            package, version = (about.name, about.version) if about else ("unknown", "0")
            target = entry.value.partition("[")[0].strip()
            found.add(Plugin(kind, entry.name, target, package, version))
    return sorted(found, key=lambda one: (list(METHODS).index(one.kind), one))


def load_all(kind: str, make: Callable[[Plugin], T]) -> list[T]:
    """``make`` of each plugin of ``kind``; one that raises `HostError` is logged and left out."""
    made = []
    for plugin in find(kind):
        try:
            made.append(make(plugin))
        except HostError as exc:
            log.error("%s", exc)
    return made


def _is_any_on_path() -> bool:
    """Whether a package on the path has an entry point of ours: 1 ms for 60 packages."""
    for directory in sys.path:
        with suppress(OSError):
            for name in os.listdir(directory or "."):
                if name.endswith(_METADATA):
                    path = os.path.join(directory, name, "entry_points.txt")
                    with suppress(OSError), open(path, "rb") as file:
                        text = file.read()
                        if any(f"[{group}]".encode() in text for group in _GROUPS):
                            return True
    return False
