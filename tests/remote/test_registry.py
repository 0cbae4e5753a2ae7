"""Which devices have something at a server; leftovers that go; and what a server lacks."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio

from fuseswap.errors import HostError
from fuseswap.tiers.remote_identity import (
    Identity,
    device_key,
    new_identity,
    segment_key,
)
from fuseswap.tiers.remote_url import parse_url
from fuseswap.tiers.valkey_checks import Report, check
from fuseswap.tiers.valkey_links import Links, with_links
from fuseswap.tiers.valkey_registry import (
    collect,
    holdings,
    note_alive,
)
from fuseswap.units import MIB
from tests.support.remote_pages import Segments
from tests.support.tier_processes import tier_host, worker_of
from tests.support.valkey_cluster import Cluster, Server

ELSEWHERE = Identity("elsewhere-1", "m" * 32, "boot1", "host2", "swap0", "valkey0")


# coredis leaves the streams of a connection that could not be made to the collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*MemoryObject:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """At the end of each test, while these warnings are ignored."""
    yield
    gc.collect()


@asynccontextmanager
async def links_to(url: str) -> AsyncIterator[Links]:
    async with trio.open_nursery() as nursery:
        yield Links(parse_url(url), nursery)
        nursery.cancel_scope.cancel()


async def put_segment(links: Links, identity: Identity, length: int) -> None:
    key = segment_key(identity.id, 1, 1)
    node = links.nodes_of(key)[0]
    await links.link(node).ask((b"SET", key, b"x" * length), timeout_s=5)


async def test_what_each_device_holds_is_seen_from_anywhere(server: Server) -> None:
    url = f"valkey://127.0.0.1:{server.port}"
    with tier_host("valkey", url) as host:
        async with worker_of(host) as tier:
            segments = Segments(tier)
            for extent in range(3):
                await segments.write(extent)
            async with links_to(url) as links:
                await note_alive(links, ELSEWHERE)
            found = {one.identity: one for one in await with_links(parse_url(url), holdings)}
    assert found.keys() == {ELSEWHERE, host.identity}
    mine = found[host.identity]
    assert (mine.segments, mine.size_bytes) == (3, 3 * MIB)
    assert 0 <= mine.age_s < 60


async def test_leftovers_go_and_nothing_else(cluster: Cluster) -> None:
    dead = new_identity("swap0", "t")
    gone = new_identity("swap0", "t")
    with tier_host("valkey", cluster.address) as host:
        async with worker_of(host) as tier:
            segments = Segments(tier)
            for extent in range(6):
                assert await segments.write(extent) is None
            async with links_to(cluster.address) as links:
                await note_alive(links, ELSEWHERE)
                await note_alive(links, dead)
                for identity in (ELSEWHERE, dead, gone):
                    await put_segment(links, identity, 100)
                key = device_key(dead.id)
                long_ago = (b"HSET", key, "seen", "1")
                await links.link(links.nodes_of(key)[0]).ask(long_ago, timeout_s=5)
                collected = await collect(links, {host.identity.id}, silent_s=0.1)
                assert {one.identity.id for one in collected} == {dead.id, gone.id}
                left = {one.identity.id: one.segments for one in await holdings(links)}
                assert left == {ELSEWHERE.id: 1, host.identity.id: 6}
            await segments.read_all()
            assert not segments.errors


async def test_a_server_as_it_should_be(cluster: Cluster) -> None:
    report = await check(parse_url(f"{cluster.address}&replicas=1"))
    assert report == Report([], False, 3, 3 * 512 * MIB)


async def test_a_cluster_that_is_not_as_it_should_be(cluster: Cluster) -> None:
    first = cluster.primaries[0]
    replica = next(one for one in cluster.servers if one not in cluster.primaries)
    first.talk("CONFIG", "SET", "cluster-require-full-coverage", "yes")
    first.talk("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    first.talk("CONFIG", "SET", "maxmemory", 0)
    replica.kill()
    report = await check(parse_url(f"{cluster.address}&replicas=2"))
    text = "\n".join(report.warnings)
    assert "one primary's death stops all; set no" in text
    assert "maxmemory-policy is allkeys-lru" in text
    assert "maxmemory is not set" in text
    assert "1 replicas of 2: writes fail" in text
    assert "a replica that does not answer" in text
    assert report.memory_limit_bytes == 0


async def test_one_server_may_forget(server: Server) -> None:
    report = await check(parse_url(f"valkey://127.0.0.1:{server.port}"))
    assert report.volatile
    assert len(report.warnings) == 0


async def test_no_server_is_one_line(server: Server) -> None:
    server.kill()
    with pytest.raises(HostError, match=f"127.0.0.1:{server.port}: .*refused") as error:
        await check(parse_url(f"valkey://127.0.0.1:{server.port}"))
    assert "\n" not in str(error.value)
    with pytest.raises(HostError, match="refused"):
        await with_links(parse_url(f"valkey://127.0.0.1:{server.port}"), holdings)
