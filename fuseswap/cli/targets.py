"""Processes that a command is to do something with: by number, or all of a memory cgroup."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from fuseswap.cli.parser import some, whole
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux.process import cgroup_of, swap_bytes

_ROOTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


def add_targets(parser: argparse.ArgumentParser) -> None:
    """Add ``PID …`` and ``--cgroup PATH``."""
    parser.add_argument("pid", nargs="*", type=whole, metavar="PID", help="processes")
    parser.add_argument("--cgroup", type=some, metavar="PATH", help="all processes of a cgroup")


def targets(options: argparse.Namespace) -> list[int]:
    """Those that are meant.  Raises `InvalidArgument` or `HostError`."""
    if bool(options.pid) == bool(options.cgroup):
        raise InvalidArgument("give process ids, or --cgroup PATH")
    if options.cgroup:
        found = list(_processes_in(options.cgroup))
        if os.getpid() in found:
            raise HostError(f"this command is in {options.cgroup} itself: run it from outside")
        return found
    return existing(options.pid)


def existing(pids: list[int]) -> list[int]:
    """``pids``, each once.  Raises `InvalidArgument` where one is none."""
    for pid in pids:
        if pid <= 0 or not os.path.exists(f"/proc/{pid}"):
            raise InvalidArgument(f"there is no process {pid}")
    return list(dict.fromkeys(pids))


def processes_in(path: str) -> list[int]:
    """Those of the memory cgroup ``path``, and below it.  Raises `InvalidArgument`."""
    return list(_processes_in(path))


def in_swap_bytes(pids: list[int]) -> int:
    """What they have in swap together."""
    return sum(map(swap_bytes, pids))


def _processes_in(path: str) -> Iterator[int]:
    """Below ``path`` too: as `ps --cgroup` shows it, or in /sys."""
    wanted = path.rstrip("/")
    for root in _ROOTS:
        wanted = wanted.removeprefix(str(root))
    if not any((root / wanted.lstrip("/") / "cgroup.procs").exists() for root in _ROOTS):
        raise InvalidArgument(f"there is no memory cgroup '{path}'")
    for name in os.listdir("/proc"):
        if name.isdecimal():
            own = cgroup_of(int(name))
            if own == wanted or own.startswith(f"{wanted}/"):
                yield int(name)
