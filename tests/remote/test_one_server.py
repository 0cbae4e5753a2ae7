"""One server: it fills, forgets, dies, stands still, and the network to it is cut."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from fuseswap.tiers import remote_wire as wire
from fuseswap.tiers.callbacks import await_callback
from fuseswap.tiers.tier_process import Ended
from fuseswap.units import MIB, SEGMENT_BYTES
from tests.support.delaying_proxy import a_proxy
from tests.support.remote_pages import Segments
from tests.support.tier_processes import tier_host, worker_of
from tests.support.tier_reads import read_extent, write_extent
from tests.support.valkey_cluster import Server, a_sentinel, one_server


def address(server: Server, *options: str) -> str:
    return f"valkey://127.0.0.1:{server.port}?{'&'.join(('timeout=0.5', *options))}"


def keys(server: Server, kind: str) -> list[str]:
    found: list[str] = server.talk("KEYS", f"fuseswap:{kind}:*")
    return found


async def until(holds: Callable[[], bool], within_s: float = 30) -> None:
    with trio.fail_after(within_s):
        while not holds():
            await trio.sleep(0.02)


async def test_segments_are_values_of_a_device_and_go_with_it(server: Server) -> None:
    with tier_host("valkey", address(server)) as host:
        async with worker_of(host) as tier:
            segments = Segments(tier)
            for extent in range(4):
                assert await segments.write(extent) is None
            await segments.read_all()
            assert not segments.errors
            whole = segments.data[2]
            assert await whole_of(segments, 2) == whole[1]
            found = keys(server, "segment")
            assert len(found) == 4
            assert all(key.startswith(f"fuseswap:segment:{host.identity.id}:") for key in found)
            assert not any(brace in key for key in found for brace in "{}")
            await segments.write(2)
            await until(lambda: len(keys(server, "segment")) == 4)
            await segments.read_all()
            assert not segments.errors
            assert keys(server, "device") == [f"fuseswap:device:{host.identity.id}"]
        host.worker_end.send(wire.end_packet(forget=True))
        assert host.wait() == Ended.TOLD
    assert server.talk("DBSIZE") == 0


async def whole_of(segments: Segments, extent: int) -> bytes | OSError:
    generation, _ = segments.data[extent]
    begin = partial(segments.tier.begin_read, extent, generation, 0, SEGMENT_BYTES)
    return await await_callback(begin)


async def test_a_segment_that_was_forgotten_is_no_zeros(server: Server) -> None:
    with tier_host("valkey", address(server)) as host:
        async with worker_of(host) as tier:
            segments = Segments(tier)
            await segments.write(1)
            server.talk("FLUSHALL")
            error = await segments.read(1)
            assert error is not None
            assert error.errno == errno.ENODATA
            assert await segments.write(1) is None
            assert await segments.read(1) is None


async def test_a_full_server_is_a_full_tier(server: Server) -> None:
    server.talk("CONFIG", "SET", "maxmemory", 12 * MIB)
    with tier_host("valkey", address(server)) as host:
        async with worker_of(host) as tier:
            segments = Segments(tier)
            errors = [await segments.write(extent) for extent in range(16)]
            full = [error for error in errors if error is not None]
            assert full
            assert {error.errno for error in full} == {errno.ENOSPC}
            await segments.read_all()
            assert not segments.errors
            server.talk("CONFIG", "SET", "maxmemory", 64 * MIB)
            assert await segments.write(20) is None


async def test_a_server_that_dies_and_comes_again_empty(server: Server) -> None:
    with tier_host("valkey", address(server)) as host:
        async with worker_of(host, timeout_s=1.0) as tier:
            pid = host.process and host.process.pid
            segments = Segments(tier)
            await segments.write(1)
            server.kill()
            error = await segments.read(1)
            assert error is not None
            assert error.errno == errno.ETIMEDOUT
            server.start()
            while error is not None and error.errno == errno.ETIMEDOUT:
                error = await segments.read(1)
            assert error is not None
            assert error.errno == errno.ENODATA
            assert await segments.write(2) is None
            assert await segments.read(2) is None
            assert host.process is not None
            assert host.process.pid == pid
            assert host.process.poll() is None


@pytest.mark.parametrize("how", ["killed", "still", "cut"])
async def test_a_thousand_reads_of_a_dead_server_take_the_time_of_one(
    server: Server, how: str
) -> None:
    """They would take 50 minutes.  And it is used again when it is back."""
    with a_proxy(server.port) as proxy:
        port = proxy.port if how == "cut" else server.port
        with tier_host("valkey", f"valkey://127.0.0.1:{port}?timeout=0.5") as host:
            async with worker_of(host, timeout_s=3.0) as tier:
                segments = Segments(tier)
                while await segments.write(1) is not None:
                    pass  # the process may take long to begin
                {"killed": server.kill, "still": server.stop, "cut": proxy.cut}[how]()
                with trio.fail_after(100):
                    for _ in range(1000):
                        error = await segments.read(1)
                        assert error is not None
                        assert error.errno == errno.ETIMEDOUT
                proxy.heal()
                server.go_on()
                await until(lambda: len(keys(server, "segment")) == (how != "killed"))
                with trio.fail_after(30):
                    while (error := await segments.read(1)) is not None:
                        if error.errno == errno.ENODATA:
                            break
                        await trio.sleep(0.02)
                assert (error is None) == (how != "killed")


async def test_a_server_that_stands_still_costs_time_and_nothing_else(server: Server) -> None:
    with tier_host("valkey", address(server)) as host:
        async with worker_of(host) as tier:
            segments = Segments(tier)
            for extent in range(4):
                await segments.write(extent)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(segments.read_on)
                server.stop()
                await trio.sleep(2)
                server.go_on()
                before = segments.reads
                await until(lambda: segments.reads > before + 100)
                nursery.cancel_scope.cancel()
            assert not segments.errors
            assert segments.longest_s > 1


async def test_a_network_that_is_cut_and_comes_back_is_used_at_once(server: Server) -> None:
    """Its old connections would wait for TCP's own tries, which are seconds apart by then."""
    with a_proxy(server.port) as proxy:
        url = f"valkey://127.0.0.1:{proxy.port}?timeout=0.5"
        with tier_host("valkey", url) as host:
            async with worker_of(host) as tier:
                segments = Segments(tier)
                await segments.write(1)
                proxy.cut()
                async with trio.open_nursery() as nursery:
                    for _ in range(20):
                        nursery.start_soon(segments.read, 1)
                    await trio.sleep(2)
                    assert not segments.reads
                    proxy.heal()
                    with trio.fail_after(3):
                        while segments.reads < 20:
                            await trio.sleep(0.01)
                assert not segments.errors
                assert await segments.write(2) is None


async def test_a_password_stays_in_its_file(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("user=joe\npassword=open-sesame\n")
    secret.chmod(0o600)
    server.talk("ACL", "SETUSER", "joe", "on", ">open-sesame", "~fuseswap:*", "+@all")
    server.talk("ACL", "SETUSER", "default", "off")
    with pytest.raises(RuntimeError, match="NOAUTH"):
        server.talk("PING")
    url = address(server, f"credentials={secret}")
    with tier_host("valkey", url) as host:
        async with worker_of(host) as tier:
            segments = Segments(tier)
            assert await segments.write(1) is None
            assert await segments.read(1) is None
            assert host.process is not None
            command = Path(f"/proc/{host.process.pid}/cmdline").read_text()
            environment = Path(f"/proc/{host.process.pid}/environ").read_text()
            assert "sesame" not in command + environment
    secret.write_text("user=joe\npassword=wrong-sesame\n")
    with tier_host("valkey", url, write_timeout_s=1) as host:
        async with worker_of(host) as tier:
            assert isinstance(await Segments(tier).write(1), OSError)
    assert "sesame" not in "".join(capfd.readouterr())


async def test_tls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [*make.split(), *names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    with one_server(tmp_path / "plain") as plain:
        port = plain.port
        plain.talk("CONFIG", "SET", "tls-auth-clients", "no")
        plain.talk("CONFIG", "SET", "tls-key-file", str(key), "tls-cert-file", str(certificate))
        plain.talk("CONFIG", "SET", "tls-ca-cert-file", str(certificate), "tls-port", port + 1)
        url = f"valkey://127.0.0.1:{port + 1}?tls=yes"
        with tier_host("valkey", f"{url}&ca={certificate}") as host:
            async with worker_of(host) as tier:
                await write_extent(tier, 1, memoryview(bytes(5000)))
                assert await read_extent(tier, 1, 0, 5000) == bytes(5000)
        with tier_host("valkey", url, write_timeout_s=1) as host:
            async with worker_of(host) as tier:
                with pytest.raises(OSError, match="tier0"):
                    await write_extent(tier, 1, memoryview(bytes(5000)))


async def test_reads_at_depth_16_are_4_times_those_at_depth_1(server: Server) -> None:
    """Over 5 ms each way: on a busy machine the processors are the limit otherwise."""
    with (
        a_proxy(server.port, 5000) as proxy,
        tier_host("valkey", f"valkey://127.0.0.1:{proxy.port}") as host,
    ):
        async with worker_of(host) as tier:
            segments = Segments(tier)
            for extent in range(4):
                await segments.write(extent)
            rates = [max([await rate(segments, depth) for _ in range(2)]) for depth in (1, 16)]
    print(f"reads a second at depth 1 and 16: {rates[0]:.0f}, {rates[1]:.0f}")
    assert rates[1] > 4 * rates[0]


async def rate(segments: Segments, depth: int, count: int = 160) -> float:
    """Reads a second."""
    began = trio.current_time()

    async def read_some() -> None:
        for _ in range(count // depth):
            assert await segments.read(1) is None

    async with trio.open_nursery() as nursery:
        for _ in range(depth):
            nursery.start_soon(read_some)
    return count / (trio.current_time() - began)


async def test_sentinels_say_who_the_primary_is(tmp_path: Path) -> None:
    """And who has taken over: the replica, when the primary has died."""
    with one_server(tmp_path / "one") as one, one_server(tmp_path / "two") as two:
        two.talk("REPLICAOF", "127.0.0.1", one.port)
        await until(lambda: "master_link_status:up" in two.talk("INFO", "replication"))
        with a_sentinel(tmp_path / "sentinel", "main", one) as sentinel:
            await until(lambda: len(sentinel.talk("SENTINEL", "REPLICAS", "main")) == 1)
            url = f"valkey://127.0.0.1:{sentinel.port}?sentinel=main&replicas=1&timeout=0.5"
            with tier_host("valkey", url) as host:
                async with worker_of(host) as tier:
                    segments = Segments(tier)
                    assert await segments.write(1) is None
                    one.kill()
                    assert await segments.read(1) is None
                    await until(lambda: "role:master" in two.talk("INFO", "replication"))
                    assert await segments.read(1) is None
                    assert segments.longest_s < 5
