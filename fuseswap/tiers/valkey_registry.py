"""Which devices have something at a server, and the leftovers of those that died.

Each device has a hash there (``remote_identity.py``) with the fields of its `Identity`.  Its field
``seen`` is the server's own clock when the device said that it lives, every 60 s.  A device writes
no segment before it has said so once.

A leftover is deleted where its device can't live any more.  It was not seen for `SILENT_S`, and

    on this machine       it is not among the devices that are up
    on another machine    something there was seen later, of another boot
    on any                it was not seen for `OLDER_MINUTES`

A machine that is cut off from the server for so long loses its pages there if a person says
``fuseswap tier gc`` then.  Nothing is deleted by itself.  Segments whose device has no hash are
leftovers where they still have none after `SILENT_S`.

A command calls ``trio.run(with_links, parse_url(url), holdings)`` (``valkey_links.py``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

import trio
from coredis.exceptions import AskError
from coredis.exceptions import ConnectionError as LinkError

from fuseswap.tiers.remote_identity import (
    DEVICES,
    SEGMENTS,
    Identity,
    device_key,
    id_of_key,
    machine_hash,
)
from fuseswap.tiers.valkey_links import Command, Links, Node, understood

OLDER_MINUTES = 60.0
SILENT_S = 180.0  # three times that it should have been seen
_BATCH = 500
_MOST_BATCHES = 1 << 20  # a server that has no end is none


class Holding(NamedTuple):
    """What one tier of one device has at the server; ``age_s`` since it was seen."""

    identity: Identity
    segments: int
    size_bytes: int
    age_s: float

    @property
    def is_known(self) -> bool:
        """Whether its device has said who it is."""
        return self.age_s != math.inf


async def note_alive(links: Links, identity: Identity) -> None:
    """Say that a device lives.  Raises as `fuseswap.tiers.valkey_links.Link.ask`."""
    key = device_key(identity.id)
    now = await _now(links, key)
    fields = [part for pair in identity._asdict().items() for part in pair]
    await _ask(links, key, (b"HSET", key, *fields, "seen", repr(now)))


async def holdings(links: Links) -> list[Holding]:
    """Of all devices, by machine and name.  Takes a look at each key."""
    segments: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    devices: dict[str, tuple[Identity, float]] = {}
    for primary in await _primaries(links):
        for keys in await _keys(links, primary, SEGMENTS):
            lengths = await _ask_node(links, primary, *((b"STRLEN", key) for key in keys))
            with understood():
                for key, length in zip(keys, lengths, strict=True):
                    segments[id_of_key(key)] += 1
                    sizes[id_of_key(key)] += int(length)
        for keys in await _keys(links, primary, DEVICES):
            for key in keys:
                with understood():
                    devices[id_of_key(key)] = await _device(links, primary, key)
    for one in segments:
        devices.setdefault(one, (Identity(one, "", "", "", "", ""), math.inf))
    found = [
        Holding(identity, segments[one], sizes[one], age_s)
        for one, (identity, age_s) in devices.items()
    ]
    return sorted(found, key=lambda one: (one.identity.host, one.identity.device, one.identity.id))


def leftovers(
    found: Collection[Holding], up: Collection[str], older_minutes: float = OLDER_MINUTES
) -> list[Holding]:
    """Those whose devices can't live; ``up`` are the ids of this machine's devices."""
    here = machine_hash()
    latest: dict[str, Holding] = {}
    for one in sorted(found, key=lambda one: -one.age_s):
        latest[one.identity.machine] = one

    def is_dead(one: Holding) -> bool:
        identity = one.identity
        if identity.id in up or one.age_s < SILENT_S:
            return False
        rebooted = latest[identity.machine].identity.boot != identity.boot
        return identity.machine == here or rebooted or one.age_s > older_minutes * 60

    return [one for one in found if is_dead(one)]


async def collect(
    links: Links,
    up: Collection[str],
    older_minutes: float = OLDER_MINUTES,
    silent_s: float = SILENT_S,
    among: Collection[str] | None = None,
) -> list[Holding]:
    """Delete leftovers, of the ids ``among`` only; returns them.

    Takes ``silent_s`` where there are some of no device.
    """
    dead = _among(leftovers(await holdings(links), up, older_minutes), among)
    if not all(one.is_known for one in dead):
        before = {one.identity.id for one in dead if not one.is_known}
        await trio.sleep(silent_s)
        dead = _among(leftovers(await holdings(links), up, older_minutes), among)
        dead = [one for one in dead if one.is_known or one.identity.id in before]
    for one in dead:
        await delete_device(links, one.identity.id)
    return dead


def _among(found: list[Holding], ids: Collection[str] | None) -> list[Holding]:
    return found if ids is None else [one for one in found if one.identity.id in ids]


async def delete_device(links: Links, identity: str) -> None:
    """Delete all segments of one device, and its hash."""
    for primary in await _primaries(links):
        for keys in await _keys(links, primary, f"{SEGMENTS}:{identity}"):
            await _ask_node(links, primary, *((b"UNLINK", key) for key in keys))
    await _ask(links, device_key(identity), (b"UNLINK", device_key(identity)))


async def _device(links: Links, primary: Node, key: bytes) -> tuple[Identity, float]:
    fields, (seconds, us) = await _ask_node(links, primary, (b"HGETALL", key), (b"TIME",))
    text = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
    seen = float(text.pop("seen", "0"))
    identity = Identity(*(text.get(name, "") for name in Identity._fields))
    age_s = int(seconds) + int(us) / 1e6 - seen
    return identity._replace(id=id_of_key(key)), max(0.0, age_s)


async def _now(links: Links, key: bytes) -> float:
    (now,) = await _ask(links, key, (b"TIME",))
    with understood():
        seconds, us = now
        return int(seconds) + int(us) / 1e6


async def _primaries(links: Links) -> list[Node]:
    if links.has_layout:
        await links.refresh()
    return links.primaries


async def _ask(links: Links, key: bytes, *commands: Command) -> list[Any]:
    """At the primary of ``key``; once more with the layout of now."""
    if nodes := links.nodes_of(key):
        try:
            return await _ask_node(links, nodes[0], *commands)
        except AskError:
            pass
    await _primaries(links)
    if not (nodes := links.nodes_of(key)):
        raise TimeoutError("the slot of the device is not served")
    return await _ask_node(links, nodes[0], *commands)


async def _ask_node(links: Links, node: Node, *commands: Command) -> list[Any]:
    if not commands:
        return []
    return await links.link(node, bulk=True).ask(*commands, timeout_s=5 * links.url.timeout_s)


async def _keys(
    links: Links, primary: Node, prefix: str, most: int = _MOST_BATCHES
) -> list[list[bytes]]:
    """All below ``prefix``, in at most so many batches; 100 bytes of memory each key."""
    found: list[list[bytes]] = []
    cursor = 0
    for _ in range(most):
        scan = b"SCAN", cursor, b"MATCH", f"{prefix}:*", b"COUNT", _BATCH
        (answer,) = await _ask_node(links, primary, scan)
        with understood():
            at, keys = answer
            found.append([bytes(memoryview(key)) for key in keys])
            cursor = int(at)
        if not cursor:
            return found
    raise LinkError("its keys have no end")
