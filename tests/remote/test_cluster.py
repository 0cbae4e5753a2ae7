"""A cluster of three primaries and three replicas: nothing is wrong in between."""

from __future__ import annotations

import errno
import functools

import trio

from fuseswap.tiers.remote_identity import segment_key
from fuseswap.tiers.remote_tier import RemoteTier
from fuseswap.tiers.remote_wire import next_version
from tests.support.remote_pages import Segments
from tests.support.tier_processes import TierHost, tier_host, worker_of
from tests.support.valkey_cluster import Cluster, wait_until

SEGMENTS = 24


def key_of(host: TierHost, segments: Segments, extent: int) -> str:
    """Each extent was written once."""
    version = next_version(segments.data[extent][0], 0)
    return segment_key(host.identity.id, extent, version).decode()


async def filled(tier: RemoteTier, count: int = SEGMENTS) -> Segments:
    segments = Segments(tier)
    for extent in range(count):
        assert await segments.write(extent) is None
    return segments


async def settled(cluster: Cluster, what: str, holds: object) -> None:
    await trio.to_thread.run_sync(functools.partial(wait_until, holds, what))
    del cluster


async def test_a_primary_is_killed(cluster: Cluster) -> None:
    """Its replica has what it had: no read fails, and writes go on when that has taken over."""
    with tier_host("valkey", f"{cluster.address}&replicas=1&timeout=0.5") as host:
        async with worker_of(host) as tier:
            segments = await filled(tier)
            spread = {cluster.primary_of(key_of(host, segments, e)).port for e in segments.data}
            assert len(spread) == 3
            async with trio.open_nursery() as nursery:
                nursery.start_soon(segments.read_on)
                await trio.sleep(0.5)
                victim = cluster.primary_of(key_of(host, segments, 0))
                victim.kill()
                for _ in range(10):
                    await segments.read_all()
                await settled(
                    cluster,
                    "the replica to take over",
                    lambda: cluster.primary_of(key_of(host, segments, 0)).port != victim.port,
                )
                await segments.read_all()
                victim.start()
                await settled(cluster, "all to be well", cluster.is_well)
                nursery.cancel_scope.cancel()
            assert not segments.errors
            print(f"longest read {segments.longest_s:.2f} s of {segments.reads}")
            for extent in range(SEGMENTS, 2 * SEGMENTS):
                assert await segments.write(extent) is None
            await segments.read_all()
            assert not segments.errors


async def test_all_primaries_stand_still(cluster: Cluster) -> None:
    with tier_host("valkey", f"{cluster.address}&timeout=0.5") as host:
        async with worker_of(host) as tier:
            segments = await filled(tier)
            await settled(cluster, "replicas in sync", cluster.is_well)
            for server in cluster.servers:
                server.stop()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(segments.read_on)
                await trio.sleep(4)
                for server in cluster.servers:
                    server.go_on()
                before = segments.reads
                with trio.fail_after(20):
                    while segments.reads < before + 500:
                        await trio.sleep(0.02)
                nursery.cancel_scope.cancel()
            assert not segments.errors
            await settled(cluster, "all to be well", cluster.is_well)
            assert await segments.write(SEGMENTS) is None


async def test_a_part_that_is_dead_is_soon_known_and_the_others_are_read(cluster: Cluster) -> None:
    """A primary and its replica: 600 reads of what they had do not take 3 s each."""
    with tier_host("valkey", f"{cluster.address}&timeout=0.5") as host:
        async with worker_of(host, timeout_s=3.0) as tier:
            segments = await filled(tier)
            await settled(cluster, "replicas in sync", cluster.is_well)
            victim = cluster.primary_of(key_of(host, segments, 0))
            lost = [
                extent
                for extent in segments.data
                if cluster.primary_of(key_of(host, segments, extent)) is victim
            ]
            for port in cluster.ports_of(victim):
                next(server for server in cluster.servers if server.port == port).kill()
            with trio.fail_after(200):
                for _ in range(25):
                    for extent in segments.data:
                        error = await segments.read(extent)
                        assert (error is not None) == (extent in lost)
            for server in cluster.servers:
                server.go_on()
            await settled(cluster, "all to be well", cluster.is_well)
            with trio.fail_after(30):
                while (error := await segments.read(lost[0])) is not None:
                    if error.errno == errno.ENODATA:
                        break


async def test_fewer_copies_than_asked_for_is_a_write_that_failed(cluster: Cluster) -> None:
    """The frame is kept then."""
    with tier_host("valkey", f"{cluster.address}&replicas=2&timeout=0.2") as host:
        async with worker_of(host) as tier:
            segments = Segments(tier)
            error = await segments.write(0)
            assert error is not None
            assert error.errno == errno.EIO


async def test_a_process_that_is_replaced_meanwhile(cluster: Cluster) -> None:
    with tier_host("valkey", f"{cluster.address}&timeout=0.5") as host:
        async with worker_of(host) as tier:
            segments = await filled(tier, 8)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(segments.read_on)
                for number in range(4):
                    host.kill()
                    host.start()
                    assert await segments.write(8 + number) is None
                nursery.cancel_scope.cancel()
            await segments.read_all()
            assert not segments.errors
