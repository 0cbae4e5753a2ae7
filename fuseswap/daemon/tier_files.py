"""Files and block devices of tiers, as commands open and give them back.

A command may wait for a disk, so it opens them, and hands the descriptors to the supervisor as
an attachment.  Its description, which ``worker_tiers.py`` makes a tier of:

    kind     as in the SPEC; encrypt: as asked for, None by default
    files    of each descriptor that is of a file: path, size_bytes, made, former
    parts    of a mirror: the kind of each part
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from fuseswap.daemon import attachment
from fuseswap.daemon.attachment import TIER, Attachment
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.tiers import backing_file
from fuseswap.tiers.ownership_label import room_bytes
from fuseswap.tiers.tier_spec import BLOCK, FILE, KINDS_OF_FILES, TierSpec
from fuseswap.tiers.tier_table import check_extents
from fuseswap.units import MIB


def check(specs: Sequence[TierSpec], size_bytes: int) -> None:
    """Refuse what can't be, before anything is made: `InvalidArgument` or `HostError`.

    ``size_bytes``: of the device, and so of a file that is to be made.
    """
    paths = []
    for spec in specs:
        if spec.encrypt:
            raise InvalidArgument(f"tier '{spec.name}' can't be encrypted: no tier can as yet")
        if spec.kind not in KINDS_OF_FILES:
            raise InvalidArgument(f"there is no kind of tier '{spec.kind}'")
        for leaf in spec.leaves:
            _check_file(leaf, spec.size_bytes or size_bytes)
            paths.append(os.path.realpath(leaf.rest))
    for path in paths:
        if paths.count(path) > 1:
            raise InvalidArgument(f"{path} is there twice")


def backing_spec(path: str, name: str) -> TierSpec:
    """The tier that ``--backing PATH`` asks for, whatever the path is of."""
    is_block = os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode)
    return TierSpec(name, BLOCK if is_block else FILE, path)


def _check_file(leaf: TierSpec, size_bytes: int) -> None:
    path = leaf.rest
    planned = backing_file.planned_bytes(path, size_bytes)
    check_extents(room_bytes(planned) // MIB, path)
    is_block = os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode)
    if is_block and leaf.kind == FILE:
        raise InvalidArgument(f"{path} is a block device: block:{path}")
    if not is_block and leaf.kind == BLOCK:
        raise InvalidArgument(f"{path} is no block device; for a file: file:{path}")


def open_tier(spec: TierSpec, device: str, size_bytes: int) -> Attachment:
    """Open, lock and claim its files for ``device``, as `open_backing` does.

    Raises `HostError`; a file that was made is removed again.
    """
    fds: list[int] = []
    files: list[dict[str, Any]] = []
    try:
        for leaf in spec.leaves:
            planned = backing_file.planned_bytes(leaf.rest, spec.size_bytes or size_bytes)
            opened = backing_file.open_backing(leaf.rest, planned, device)
            fds.append(opened.fd)
            files.append(
                {
                    "path": leaf.rest,
                    "size_bytes": planned,
                    "made": opened.made,
                    "former": opened.former,
                }
            )
    except HostError:
        give_back(Attachment("", tuple(fds), {"files": files}))
        raise
    description: dict[str, Any] = {"kind": spec.kind, "encrypt": spec.encrypt, "files": files}
    if spec.parts:
        description["parts"] = [part.kind for part in spec.parts]
    return Attachment(TIER + spec.name, tuple(fds), description)


def give_back(one: Attachment) -> None:
    """It came to nothing: the claims end, files that were made are removed."""
    for fd, path, made in one.backing_files():
        with contextlib.suppress(OSError):
            backing_file.close_backing(fd, path, made=made)
    attachment.close(one.fds)


@contextlib.contextmanager
def opened(specs: Sequence[TierSpec], device: str, size_bytes: int) -> Iterator[list[Attachment]]:
    """Those of a device that comes up, under their numbers, for its supervisor to inherit.

    Given back where it does not come up.
    """
    found: list[Attachment] = []
    try:
        for spec in specs:
            one = open_tier(spec, device, size_bytes)
            found.append(one._replace(fds=attachment.moved(one.fds)))
        yield found
    except BaseException:
        for one in found:
            give_back(one)
        raise
    for one in found:
        attachment.close(one.fds)


def release(one: Attachment, device: str) -> None:
    """No process has it any more: the claims end.  Raises `HostError`."""
    for _, path, made in one.backing_files():
        backing_file.release_backing(path, device, made=made)


def size_bytes(one: Attachment) -> int:
    """The largest of its files, with both ends: what the limit of file sizes must allow."""
    return max((int(file["size_bytes"]) for file in one.description.get("files", [])), default=0)
