"""What has to hold of a disk whose power went: the file system, each backing file, no plain page.

mounts -> each file: as promised, taken again, given back -> `up`, a page, `down` -> e2fsck
"""

from __future__ import annotations

import mmap
import os
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fuseswap.errors import HostError
from fuseswap.tiers.backing_file import close_backing, open_backing, planned_bytes
from fuseswap.tiers.ownership_label import END_BYTES, Claim
from tests.kernels import cache
from tests.kernels.guest.moments import (
    BLOCK,
    FILE_BYTES,
    FILES,
    MIB,
    PLAIN,
    SECRET,
    SIZE_MIB,
    TIERS,
)
from tests.kernels.power_promises import ABSENT, BLANK, CLAIMED, Promise, is_kept

_NAME = "after"
_OTHERS = {"lost+found", "scenario.json"}
_BUSY_S = 5.0


@dataclass(slots=True)
class Found:
    """Of one cut or of all: complaints, and how often what was there."""

    complaints: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@contextmanager
def mounted(disk: Path | str, place: Path, *options: str) -> Iterator[None]:
    """The file system of a disk image or a device.  Raises `cache.CommandFailed`."""
    place.mkdir(exist_ok=True)
    cache.run("mount", "-t", "ext4", *options, str(disk), place)
    try:
        yield
    finally:
        deadline = time.monotonic() + _BUSY_S
        while subprocess.run(("umount", place), capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                cache.run("umount", "-l", place)
                break
            time.sleep(0.05)


def check(
    disk: Path, place: Path, promised: dict[str, Promise], fuseswap: Sequence[str] = ()
) -> Found:
    """Look at the disk, mounted at ``place``; with ``fuseswap`` also by that command."""
    found = Found()
    if holds(disk, SECRET):
        found.complaints.append("an encrypted device's page lies on the disk in plain")
    found.counts["plain pages where they may be"] += holds(disk, PLAIN)
    try:
        with mounted(disk, place, "-o", "loop,nodiscard"):
            _check_files(place, promised, fuseswap, found)
    except cache.CommandFailed as exc:
        found.complaints.append(str(exc))
    done = subprocess.run(("e2fsck", "-f", "-n", disk), capture_output=True, text=True, check=False)
    if done.returncode:
        found.complaints.append(f"e2fsck: {done.returncode}: {done.stdout[-300:]}")
    return found


def holds(path: Path, marker: bytes) -> bool:
    """Whether it is in the file."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            return data.find(marker) >= 0


def _check_files(
    place: Path, promised: dict[str, Promise], fuseswap: Sequence[str], found: Found
) -> None:
    strangers = {path.name for path in place.iterdir()} - {*FILES, *TIERS, *_OTHERS}
    found.complaints += [f"{name} is there" for name in sorted(strangers)]
    by_command = bool(fuseswap)
    for name in (*FILES, *TIERS):
        path = place / name
        promise = promised.get(name, Promise())
        if promise.states == {CLAIMED} and path.exists():
            found.complaints += [f"{name} {wrong}" for wrong in _unlike_one_in_use(path)]
        try:
            if by_command and path.exists():
                by_command = False
                state, device, made = _by_command(path, fuseswap)
                found.counts["by the real command"] += 1
            else:
                state, device, made = _by_functions(path, found)
        except (HostError, OSError, cache.CommandFailed, ValueError) as exc:
            found.complaints.append(f"{name}: {exc}")
            continue
        found.counts[state] += 1
        if state == BLANK and promise.made:
            found.counts["blank, being made"] += 1
        if wrong := is_kept(promise, state, device, made):
            found.complaints.append(f"{name} {wrong}")


def _unlike_one_in_use(path: Path) -> Iterator[str]:
    """What `up` has seen to by the time it returns."""
    with open(path, "rb") as file:
        there = os.fstat(file.fileno())
        if stat.S_IMODE(there.st_mode) != 0o600:
            yield f"has mode {there.st_mode:o}"
        if there.st_blocks * 512 < there.st_size:
            yield "is not preallocated"
        hole = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
        if hole != there.st_size:
            yield f"was not written at {hole}"


def _by_functions(path: Path, found: Found) -> tuple[str, str, bool]:
    """State, device, whether it was made.  Taken as `up` takes it, and given back."""
    if not path.exists():
        return ABSENT, "", False
    found.counts["files of 0 bytes"] += not path.stat().st_size
    planned = _planned(path)
    was_plain = holds(path, PLAIN)
    opened = open_backing(str(path), planned, _NAME)
    try:
        close_backing(opened.fd, str(path), made=opened.made, encrypted=not was_plain)
    finally:
        os.close(opened.fd)
    if opened.former is None and was_plain:
        raise ValueError("has plain pages, and no claim")
    found.counts["plain pages in a claimed file"] += was_plain
    if path.exists() == opened.made:
        raise ValueError("down left what was made" if opened.made else "down removed it")
    if path.exists() and holds(path, PLAIN):
        raise ValueError("down left plain pages")
    return (CLAIMED if opened.former else BLANK), opened.former or "", opened.made


def _by_command(path: Path, fuseswap: Sequence[str]) -> tuple[str, str, bool]:
    """The same by `up`, a page that is written and read, and `down`."""
    claim = _claim(path)
    _planned(path)
    cache.run(
        *fuseswap, "up", _NAME, "--size", f"{SIZE_MIB}M", "--pool-limit", "8M", "--no-swapon",
        "--standby", "off", "--tune", "off", "--backing", path,
    )  # fmt: skip
    try:
        _use(Path(os.environ["FUSESWAP_RUNTIME_DIR"]) / _NAME / "mnt/swapfile", fuseswap)
    finally:
        cache.run(*fuseswap, "down", _NAME)
    if path.exists() and _claim(path):
        raise ValueError("down left its claim")
    return (CLAIMED if claim else BLANK), claim.name if claim else "", not path.exists()


def _use(swapfile: Path, fuseswap: Sequence[str]) -> None:
    page = os.urandom(BLOCK)
    with open(swapfile, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), page, MIB)
        cache.run(*fuseswap, "writeback", _NAME, "--all")
        if os.pread(file.fileno(), BLOCK, MIB) != page:
            raise ValueError("a page came back wrong")


def _planned(path: Path) -> int:
    """What `up` would make of its size.  Raises `ValueError` where that is not what it had."""
    planned = planned_bytes(str(path), SIZE_MIB * MIB)
    if planned != FILE_BYTES:
        raise ValueError(f"the next up takes it with {planned} bytes, not {FILE_BYTES}")
    return planned


def _claim(path: Path) -> Claim | None:
    with open(path, "rb") as file:
        head = file.read(END_BYTES)
        file.seek(max(len(head), os.fstat(file.fileno()).st_size - END_BYTES))
        return Claim.in_ends(head, file.read())
