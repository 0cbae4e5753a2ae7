"""Files, block devices and servers of tiers, as commands open and give them back.

A command may wait for a disk, so it opens them, and hands the descriptors to the supervisor as
an attachment.  Its description, which ``worker_tiers.py`` makes a tier of:

    policy   words of its priority and limit, where it has some from the start
    encrypt  whether what is written there can't be read by others
    files    of each descriptor that is of a file: path, size_bytes, made, former; they come first
    leaves   the tier itself, or both halves of a mirror: kind, and which of the descriptors;
             of a remote one also what its process is told (``remote_files.py``)
    marks    of a mirror, which descriptor: a byte an extent (``tiers/mirrored_tier.py``)
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from fuseswap.daemon import attachment
from fuseswap.daemon.attachment import MAY_FORGET, TIER, Attachment
from fuseswap.daemon.remote_files import REMOTE_KINDS, marks, open_remote, url_of
from fuseswap.errors import HostError, InvalidArgument, in_words
from fuseswap.plugins import entry_points
from fuseswap.spelling import or_rather
from fuseswap.tiers import backing_file
from fuseswap.tiers.extent_pool import check_extents
from fuseswap.tiers.ownership_label import room_bytes
from fuseswap.tiers.remote_url import parse_url
from fuseswap.tiers.tier_spec import BLOCK, FILE, KINDS_OF_FILES, MIRROR, TierSpec
from fuseswap.units import ENCRYPTED_SEGMENT_BYTES, MIB


def check(specs: Sequence[TierSpec], size_bytes: int) -> None:
    """Refuse what can't be, before anything is made: `InvalidArgument` or `HostError`.

    ``size_bytes``: of the device, and so of a file that is to be made.
    """
    paths = []
    for spec in specs:
        for leaf in spec.leaves:
            if leaf.kind in REMOTE_KINDS:
                parse_url(url_of(leaf))
                if spec.encrypt is False:
                    raise InvalidArgument(
                        f"tier '{spec.name}': what leaves this machine is always encrypted"
                    )
            elif leaf.kind in KINDS_OF_FILES:
                _check_file(leaf, spec.size_bytes or size_bytes)
                paths.append(os.path.realpath(leaf.rest))
            else:
                _check_plugin(leaf.kind)
    for path in paths:
        if paths.count(path) > 1:
            raise InvalidArgument(f"{path} is there twice")


def _check_plugin(kind: str) -> None:
    """A tier of another package has to be there, and to load."""
    found = {plugin.name: plugin for plugin in entry_points.find("tier")}
    if kind not in found:
        known = (*KINDS_OF_FILES, *REMOTE_KINDS, MIRROR, *found)
        raise InvalidArgument(f"there is no kind of tier '{kind}'{or_rather(kind, known)}")
    found[kind].load()


def backing_spec(path: str, name: str, *, encrypt: bool) -> TierSpec:
    """The tier that ``--backing PATH`` asks for, whatever the path is of."""
    return TierSpec(name, BLOCK if _is_block(path) else FILE, path, encrypt=encrypt)


def _is_block(path: str) -> bool:
    return os.path.exists(path) and stat.S_ISBLK(os.stat(path).st_mode)


def _check_file(leaf: TierSpec, size_bytes: int) -> None:
    path = leaf.rest
    planned = backing_file.planned_bytes(path, size_bytes)
    check_extents(room_bytes(planned) // MIB, path)
    is_block = _is_block(path)
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
    encrypt = spec.encrypt is not False
    leaves: list[dict[str, Any]] = [{"kind": leaf.kind} for leaf in spec.leaves]
    wanted = spec.size_bytes or size_bytes
    try:
        for leaf, described in zip(spec.leaves, leaves, strict=True):
            if leaf.kind in KINDS_OF_FILES:
                described["fds"] = [len(fds)]
                fd, file = _open_file(leaf, device, wanted)
                fds.append(fd)
                files.append(file)
                described["extent_count"] = extents_in(file["size_bytes"], encrypt=encrypt)
        for number, leaf in enumerate(spec.leaves):
            if leaf.kind not in KINDS_OF_FILES:
                name = f"{spec.name}-{number}" if spec.parts else spec.name
                theirs, described = open_remote(leaf, device, name, wanted)
                described["fds"] = list(range(len(fds), len(fds) + len(theirs)))
                fds += theirs
                leaves[number] = described
        description: dict[str, Any] = {"encrypt": encrypt, "files": files, "leaves": leaves}
        if words := spec.policy_words():
            description["policy"] = words
        if spec.parts:
            description["marks"] = len(fds)
            fds.append(marks(min(leaf["extent_count"] for leaf in leaves)))
    except (HostError, OSError) as exc:
        give_back(Attachment("", tuple(fds), {"files": files}))
        raise HostError(in_words(exc)) from exc
    return Attachment(TIER + spec.name, tuple(fds), description)


def _open_file(leaf: TierSpec, device: str, wanted: int) -> tuple[int, dict[str, Any]]:
    planned = backing_file.planned_bytes(leaf.rest, wanted)
    opened = backing_file.open_backing(leaf.rest, planned, device)
    file = {
        "path": leaf.rest,
        "size_bytes": planned,
        "made": opened.made,
        "former": opened.former,
    }
    return opened.fd, file


def extents_in(file_bytes: int, *, encrypt: bool) -> int:
    """How many segments a file has room for, between its ends."""
    return room_bytes(file_bytes) // (ENCRYPTED_SEGMENT_BYTES if encrypt else MIB)


def notes_of(one: Attachment) -> list[str]:
    """What a person should know of a tier that has just come."""
    name = one.tier_name
    notes = [
        f"{file['path']} held pages of '{file['former']}', which never went down; they are "
        "written over"
        for file in one.description.get("files", [])
        if file["former"]
    ]
    for leaf in one.description.get("leaves", []):
        notes += [f"tier '{name}': {note}" for note in leaf.get("notes", [])]
    if one.may_forget:
        notes.append(f"tier '{name}' {MAY_FORGET}")
    return notes


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
        backing_file.release_backing(path, device, made=made, encrypted=one.is_encrypted)


def size_bytes(one: Attachment) -> int:
    """The largest of its files, with both ends: what the limit of file sizes must allow."""
    return max((int(file["size_bytes"]) for file in one.description.get("files", [])), default=0)
