"""What a memory server says without an end takes little memory, and ends its connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from coredis.exceptions import ConnectionError as LinkError

from fuseswap.tiers.remote_url import RemoteUrl
from fuseswap.tiers.valkey_links import Link, Links
from fuseswap.units import KIB, MIB

TIMEOUT_S = 60.0
MOST_BYTES = 64 * MIB
_GREETING = b"%3\r\n+proto\r\n:3\r\n+version\r\n+7.0.0\r\n+id\r\n:1\r\n"
_SEGMENT = b"$%d\r\n%b\r\n" % (MIB, bytes(MIB))

Answer = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def link_to(answer: Answer) -> AsyncIterator[Link]:
    """To a server that greets, and then gives ``answer``, whatever it is asked."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            async for request in stream:
                if b"HELLO" in request:
                    await stream.send_all(_GREETING)
                elif b"SETNAME" in request:
                    await stream.send_all(b"+OK\r\n")
                else:
                    await answer(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        node = listener.socket.getsockname()[:2]
        yield Links(RemoteUrl((node,), timeout_s=TIMEOUT_S), nursery).link(node)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [(b"$2000000000\r\n", bytes(64 * KIB)), (b"*2000000000\r\n", b":1\r\n" * (16 * KIB))],
    ids=["bytes", "numbers"],
)
async def test_an_answer_without_end(begins: bytes, goes_on: bytes) -> None:
    sent = 0

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal sent
        await stream.send_all(begins)
        while sent < MOST_BYTES:
            try:
                await stream.send_all(goes_on)
            except trio.BrokenResourceError:
                return
            sent += len(goes_on)

    async with link_to(answer) as link:
        with pytest.raises(LinkError):
            await link.ask((b"GETRANGE", b"key", 0, 99), timeout_s=TIMEOUT_S)
        assert link.rests
    assert sent < MOST_BYTES  # some of it is in the kernel's buffers


async def test_many_answers_are_as_long_together() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(_SEGMENT)

    async with link_to(answer) as link:
        for _ in range(20):
            (found,) = await link.ask((b"GETRANGE", b"key", 0, MIB - 1), timeout_s=TIMEOUT_S)
            assert len(found) == MIB
