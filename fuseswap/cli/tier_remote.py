"""``fuseswap tier list --remote`` and ``fuseswap tier gc``: what devices have on servers.

Servers are those of a device's remote tiers, or one is given by its address, where no device need
be.  Which leftovers may go is in ``tiers/valkey_registry.py``.  `gc` shows them first.  It deletes
nothing that it has not shown, and looks again before.  It needs ``--yes``, or a yes on a
terminal.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from fuseswap.cli.output import print_json
from fuseswap.cli.status import table
from fuseswap.daemon.attachment import Attachment
from fuseswap.daemon.remote_files import REMOTE_KINDS
from fuseswap.daemon.runtime_dir import Runtime, all_devices
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.sizes import decimal_or_nan, format_size
from fuseswap.tiers.remote_url import RemoteUrl, parse_url

if TYPE_CHECKING:
    from fuseswap.tiers.valkey_registry import Holding

HEADINGS = ("HOST", "DEVICE", "TIER", "SEGMENTS", "SIZE", "SEEN", "STATE")
_LEAST_OLDER = 3.0  # minutes: what is seen later than that is never a leftover


class Held(NamedTuple):
    """Segments that one tier of one device has at a server, and the state of that device."""

    server: str
    holding: Holding
    state: str  # this device, up here, alive, silent, leftover

    def to_json(self) -> dict[str, Any]:
        """For people's programs; `seen_ago_s` is null where it has never said who it is."""
        one, identity = self.holding, self.holding.identity
        return {
            "server": self.server,
            "id": identity.id,
            "host": identity.host,
            "device": identity.device,
            "tier": identity.tier,
            "segments": one.segments,
            "size_bytes": one.size_bytes,
            "seen_ago_s": round(one.age_s, 1) if one.is_known else None,
            "state": self.state,
        }


def show(options: argparse.Namespace) -> int:
    """``tier list --remote``."""
    found = [(url, look(url, options.device)) for url in servers(options.device, options.remote)]
    if options.json:
        print_json([one.to_json() for _, held in found for one in held])
        return 0
    for url, held in found:
        _print(url, held, "no device has anything there", in_bytes=options.bytes)
    return 0


def collect(options: argparse.Namespace) -> int:
    """``tier gc``."""
    older = _older(options.older)
    dead = {}
    for url in servers(options.device, options.address):
        dead[url] = [one for one in look(url, options.device, older) if one.state == "leftover"]
        _print(url, dead[url], "no leftovers", in_bytes=False)
    if not any(dead.values()):
        return 0
    if not options.yes and not _said_yes():
        print("nothing was deleted; to delete these: --yes", file=sys.stderr)
        return 0
    for url, held in dead.items():
        if held:
            _delete(url, held, older)
    return 0


def servers(device: str, address: str | None) -> list[RemoteUrl]:
    """``address``, or else those of the remote tiers of ``device``.

    Raises `HostError` where there are none, `InvalidArgument`.
    """
    if address:
        return [parse_url(address)]
    attachments = Runtime(device).config().attachments
    found = dict.fromkeys(leaf["rest"] for one in attachments for leaf in _remote_leaves(one))
    if not found:
        raise HostError(f"{device} has no remote tier; give an address: valkey://HOST:PORT")
    return [parse_url(url) for url in found]


def look(url: RemoteUrl, device: str, older_minutes: float = 60.0) -> list[Held]:
    """All that is at a server, as seen from ``device``.  Raises `HostError`."""
    trio, registry, with_links = _client()
    found: list[Holding] = trio.run(with_links, url, registry.holdings)
    ours = ids_here()
    dead = registry.leftovers(found, ours, older_minutes)

    def state(one: Holding) -> str:
        if one.identity.id in ours:
            return "this device" if ours[one.identity.id] == device else "up here"
        if one in dead:
            return "leftover"
        return "alive" if one.age_s < registry.SILENT_S else "silent"

    return [Held(shown(url), one, state(one)) for one in found]


def ids_here() -> dict[str, str]:
    """Those of all remote tiers of this machine's devices, and which device each is of.

    Raises `HostError` where one can't be read: what it has must not be taken for a leftover.
    """
    return {
        leaf["identity"]["id"]: runtime.name
        for runtime in all_devices()
        for one in runtime.config().attachments
        for leaf in _remote_leaves(one)
    }


def shown(url: RemoteUrl) -> str:
    """Its hosts."""
    return ",".join(f"{host}:{port}" for host, port in url.hosts)


def _remote_leaves(one: Attachment) -> list[dict[str, Any]]:
    leaves: list[dict[str, Any]] = one.description.get("leaves", [])
    return [leaf for leaf in leaves if leaf["kind"] in REMOTE_KINDS]


def _client() -> tuple[Any, Any, Any]:
    """What asks servers, which no other command needs.  Raises `HostError`."""
    try:
        import trio

        from fuseswap.tiers import valkey_registry
        from fuseswap.tiers.valkey_links import with_links
    except ImportError as exc:
        name = exc.name or "coredis"
        raise HostError(f"{name} is not installed; run: pip install 'fuseswap[remote]'") from None
    return trio, valkey_registry, with_links


def _older(text: str) -> float:
    minutes = decimal_or_nan(text)
    if not minutes >= _LEAST_OLDER:
        raise InvalidArgument(
            f"'{text}' is not valid for --older ({_LEAST_OLDER:g} or more minutes)"
        )
    return minutes


def _print(url: RemoteUrl, held: list[Held], nothing: str, *, in_bytes: bool) -> None:
    if not held:
        print(f"{shown(url)}: {nothing}")
        return
    size = str if in_bytes else format_size
    print(f"{shown(url)}:")
    print(table([HEADINGS, *(_row(one, size(one.holding.size_bytes)) for one in held)]))


def _row(one: Held, size: str) -> tuple[str, ...]:
    identity = one.holding.identity
    who = (identity.host or "?", identity.device or identity.id, identity.tier or "?")
    return (*who, str(one.holding.segments), size, format_age(one.holding.age_s), one.state)


def format_age(seconds: float) -> str:
    """How long ago it was seen."""
    if seconds == math.inf:
        return "never"
    for unit_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f}{unit}"
    return f"{seconds:.0f}s"


def _said_yes() -> bool:
    """Asked on a terminal; no elsewhere."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return input("Delete these? Nobody can read them again. [y/N] ").strip().lower() in ("y", "yes")


def _delete(url: RemoteUrl, held: Iterable[Held], older_minutes: float) -> None:
    trio, registry, with_links = _client()
    if not all(one.holding.is_known for one in held):
        wait_s = registry.SILENT_S
        print(
            f"waiting for {wait_s:.0f} s: a device may yet say whose some of them are",
            file=sys.stderr,
        )
    among = {one.holding.identity.id for one in held}
    use = partial(registry.collect, up=ids_here(), older_minutes=older_minutes, among=among)
    gone: list[Holding] = trio.run(with_links, url, use)
    segments, size = sum(one.segments for one in gone), sum(one.size_bytes for one in gone)
    print(
        f"{shown(url)}: deleted {segments} segments of {len(gone)} tiers, {format_size(size)}"
        + (f"; {len(among) - len(gone)} live after all" if len(gone) < len(among) else "")
    )
