"""Descriptors of remote tiers, as commands make them: a socket pair, and memory for segments.

What they are for is in ``tiers/remote_wire.py``.  The server is asked first, in the command's own
process, whether it is there and what is wrong with it.
"""

from __future__ import annotations

import os
import socket
from typing import Any, NamedTuple

from fuseswap.errors import HostError, in_words
from fuseswap.linux import shared_memory, syscalls
from fuseswap.tiers import remote_wire
from fuseswap.tiers.remote_identity import new_identity
from fuseswap.tiers.remote_url import parse_url
from fuseswap.tiers.tier_spec import TierSpec
from fuseswap.units import MIB

VALKEY = "valkey"
REMOTE_KINDS = (VALKEY,)
# A write that takes longer has failed, and the segment goes to the next tier.  With 2 s a try it
# may be of 1 MiB at 3 Mbit/s, or of three at once at 8.
_WRITE_TRIES = 1.5


class Looked(NamedTuple):
    """What a server is like; ``notes``: lines for a person."""

    volatile: bool
    notes: list[str]


def url_of(leaf: TierSpec) -> str:
    """The address as a person wrote it."""
    return f"{leaf.kind}:{leaf.rest}"


def look_at(leaf: TierSpec) -> Looked:
    """Ask the server.  Raises `HostError` where it does not answer, `InvalidArgument`."""
    url = parse_url(url_of(leaf))
    try:
        import trio

        from fuseswap.tiers.valkey_checks import check
    except ImportError as exc:
        name = exc.name or "coredis"
        raise HostError(f"{name} is not installed; run: pip install 'fuseswap[remote]'") from None
    report = trio.run(check, url)
    return Looked(report.volatile, report.warnings)


def open_remote(
    leaf: TierSpec, device: str, tier: str, size_bytes: int
) -> tuple[list[int], dict[str, Any]]:
    """Worker's end, process's end and memory; and what describes the leaf.

    Raises `HostError`.
    """
    extent_count = size_bytes // MIB
    looked = look_at(leaf) if leaf.kind in REMOTE_KINDS else Looked(False, [])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
    fds = [ours.detach(), theirs.detach()]
    try:
        fds.append(_memory(remote_wire.memory_bytes(extent_count)))
    except (HostError, OSError) as exc:
        for fd in fds:
            os.close(fd)
        raise HostError(f"no memory for tier '{tier}': {in_words(exc)}") from exc
    described = {
        "kind": leaf.kind,
        "rest": url_of(leaf) if leaf.kind in REMOTE_KINDS else leaf.rest,
        "identity": new_identity(device, tier)._asdict(),
        "extent_count": extent_count,
        "volatile": looked.volatile,
        "notes": looked.notes,
    }
    if leaf.kind in REMOTE_KINDS:
        described["write_timeout_s"] = _WRITE_TRIES * parse_url(url_of(leaf)).timeout_s
    return fds, described


def marks(extent_count: int) -> int:
    """Memory of a mirror: a byte an extent, which outlives the worker.  Raises `OSError`."""
    return _memory(max(1, extent_count))


def _memory(size: int) -> int:
    """Unevictable, zeros, and all of it taken now: later there may be none."""
    kind = "tmpfs" if os.geteuid() == 0 else "memfd"
    try:
        fd = shared_memory.create_files({"tier": size}, kind)[1]["tier"]
    except HostError:  # a kernel before 6.4: workers lock what they map
        fd = shared_memory.create_files({"tier": size}, "memfd")[1]["tier"]
    syscalls.fallocate(fd, 0, 0, size)
    return fd
