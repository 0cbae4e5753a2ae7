"""What supervisor, worker and tier processes are started with: flags and environment.

Root's serve a swap which everybody's memory is in.  So no variable that a caller left behind
makes them run code or read a file.  PYTHONPATH, LD_PRELOAD and OPENSSL_CONF do not reach them, nor
those with which tests make a device fail (``crash_points.py``, ``fault_injection.py``).

    PATH          directories that no other user may change (``linux/search_path.py``)
    TZ            the name of a zone: a path would be a file that each of them opens
    flags         -I: no PYTHON* variable, no user's packages, no working directory
    environment   the names in `KEPT`, and what this file says

A supervisor has -s -P instead.  With this environment they do the same, and PYTHONMALLOC, which
is ours, still counts.  ``up --testing``, hidden, leaves all of this out.  So do the devices of
ordinary users: whatever they may change is their own.
Imported by the supervisor: neither trio nor a codec here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from fuseswap.linux import search_path

_FLAGS = ("-X", "no_debug_ranges")
# Paths of tools and of runtime files, the service manager, and how a log is written.
KEPT = (
    "PATH", "FUSESWAP_RUNTIME_DIR", "XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "LANG", "LC_ALL", "TZ",
)  # fmt: skip
# One malloc arena, since every mapped byte is locked.  A supervisor takes 1.5 MB less without
# pymalloc; a worker would answer 11 % fewer writes a second.
_SUPERVISOR = {"MALLOC_ARENA_MAX": "1", "PYTHONMALLOC": "malloc"}
_WORKER = {"MALLOC_ARENA_MAX": "1", "PYTHONMALLOC": "pymalloc"}
_TIER_PROCESS = {"MALLOC_ARENA_MAX": "1"}


class Maker(Protocol):
    """Any of those below."""

    def __call__(self, *, testing: bool) -> dict[str, str]:
        """Environment of a process, from that of its parent."""


def supervisor_flags(*, testing: bool) -> tuple[str, ...]:
    """Of the interpreter that a supervisor is."""
    return (*(("-s", "-P") if _is_closed(testing) else ()), *_FLAGS)


def flags(*, testing: bool) -> tuple[str, ...]:
    """Of the interpreter that a worker or a tier process is."""
    return (*(("-I",) if _is_closed(testing) else ()), *_FLAGS)


def of_supervisor(*, testing: bool) -> dict[str, str]:
    """Environment of a supervisor, from that of the command."""
    return _of(_SUPERVISOR, testing)


def of_worker(*, testing: bool) -> dict[str, str]:
    """Environment of a worker, from that of the supervisor."""
    return _of(_WORKER, testing)


def of_tier_process(*, testing: bool) -> dict[str, str]:
    """Environment of a tier process, from that of the supervisor."""
    return _of(_TIER_PROCESS, testing)


def _of(ours: Mapping[str, str], testing: bool) -> dict[str, str]:
    if not _is_closed(testing):
        return {**os.environ, **ours}
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    kept["PATH"] = search_path.directories()
    if _is_a_path(kept.get("TZ", "")):
        del kept["TZ"]
    return {**kept, **ours}


def _is_a_path(zone: str) -> bool:
    """Out of the directory of zones, whose names have slashes as well."""
    name = zone.removeprefix(":")
    return name.startswith("/") or ".." in name


def _is_closed(testing: bool) -> bool:
    return os.geteuid() == 0 and not testing
