"""What a server should be like for a tier, asked once before a device relies on it.

For `up` and `tier add`, in the command's own process:

    report = trio.run(check, parse_url(url))

Warnings are lines for a person; the tier works all the same.  A server that does not answer is a
`HostError`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from coredis.exceptions import RedisError

from fuseswap.errors import HostError
from fuseswap.tiers.remote_url import RemoteUrl
from fuseswap.tiers.valkey_links import Links, Node, reason_of, understood, with_links

_COVERAGE = "cluster-require-full-coverage"
_POLICY = "maxmemory-policy"


class Report(NamedTuple):
    """``volatile``: it may forget what was written, so a person is told."""

    warnings: list[str]
    volatile: bool
    primaries: int
    memory_limit_bytes: int  # of all primaries; 0: one has no limit


async def check(url: RemoteUrl) -> Report:
    """Raises `HostError` where it does not answer, `InvalidArgument` for bad credentials."""
    return await with_links(url, check_links)


async def check_links(links: Links) -> Report:
    """As `check`; raises `RedisError` for an answer that makes no sense, too."""
    with understood():
        return await _check(links)


async def _check(links: Links) -> Report:
    url = links.url
    if links.has_layout:
        await links.refresh()
    else:
        await _ask(links, url.hosts[0], (b"PING",))
    if not links.primaries:
        raise HostError("the cluster serves no slot")
    warnings: list[str] = []
    limits = []
    for primary in links.primaries:
        limits.append(await _check_primary(links, primary, warnings))
        for replica in links.replicas_of(primary):
            await _check_replica(links, replica, warnings)
    uncovered = url.cluster and any(not nodes for nodes in links.ranges)
    if uncovered:
        warnings.append("some slots of the cluster are not served: their segments will not go out")
    volatile = not url.replicas
    total = sum(limits) if all(limits) else 0
    return Report(warnings, volatile, len(links.primaries), total)


async def _check_primary(links: Links, primary: Node, warnings: list[str]) -> int:
    """Adds to ``warnings``; returns its ``maxmemory`` in bytes."""
    where = f"{primary[0]}:{primary[1]}"
    replicas = len(links.replicas_of(primary))
    if links.has_layout and replicas < links.url.replicas:
        warnings.append(f"{where} has {replicas} replicas of {links.url.replicas}: writes fail")
    try:
        (found,) = await _ask(links, primary, (b"CONFIG GET", "maxmemory*"))
        coverage: dict[bytes, bytes] = {}
        if links.url.cluster:
            (coverage,) = await _ask(links, primary, (b"CONFIG GET", _COVERAGE))
    except HostError as exc:
        warnings.append(f"{exc}: its settings could not be checked")
        return 0
    policy = found.get(_POLICY.encode(), b"").decode()
    limit = int(found.get(b"maxmemory", b"0"))
    if policy != "noeviction":
        warnings.append(f"{where}: {_POLICY} is {policy}, so pages get lost; set noeviction")
    if coverage.get(_COVERAGE.encode(), b"no") == b"yes":
        warnings.append(f"{where}: {_COVERAGE} is yes: one primary's death stops all; set no")
    if not limit:
        warnings.append(f"{where}: maxmemory is not set, so it has no end before its machine's")
    return limit


async def _check_replica(links: Links, replica: Node, warnings: list[str]) -> None:
    where = f"{replica[0]}:{replica[1]}"
    try:
        (found,) = await _ask(links, replica, (b"INFO", "replication"))
    except HostError as exc:
        warnings.append(f"{exc}: a replica that does not answer")
        return
    if b"master_link_status:up" not in found:
        warnings.append(f"{where}: the replica has not finished its first synchronisation")


async def _ask(links: Links, node: Node, *commands: Any) -> list[Any]:
    try:
        return await links.link(node).ask(*commands, timeout_s=links.url.timeout_s)
    except (RedisError, TimeoutError) as exc:
        raise HostError(f"{node[0]}:{node[1]}: {reason_of(exc)}") from exc
