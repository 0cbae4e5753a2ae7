"""Connections to the nodes of a Valkey or Redis server, and which node has which key.

    plain       one node
    cluster     16384 slots; CLUSTER SLOTS says which primary and which replicas have each
    sentinel    one primary and its replicas, as the sentinels say

coredis makes the connections: `TCPConnection` joins requests that come together in one packet,
which is a pipeline.  Its pools and its cluster client are not used.  A pool loses a place for each
connection that dies while it is leased.  The cluster client ends where a node stands still while it
is asked for the layout.  And neither reads from a replica just where the primary has failed.

A link is one connection to one node.  What takes long (`bulk`) has links of its own: a read of 2
KiB does not stand behind a segment.  A request that gets no answer in time closes its connection.
So a network that comes back is used at once, whatever its old connections wait for.  After a
failure a link rests, longer each time: requests fail at once meanwhile.
"""

from __future__ import annotations

import binascii
import contextlib
import logging
import random
import ssl
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import trio
from coredis.connection import TCPConnection, TCPLocation
from coredis.exceptions import ConnectionError as LinkError
from coredis.exceptions import RedisError

from fuseswap.errors import FuseswapError, HostError
from fuseswap.tiers.remote_url import RemoteUrl
from fuseswap.tiers.valkey_connection import BoundedConnection

log = logging.getLogger(__name__)

SLOTS = 16384
_FIRST_REST_S = 0.05
_LONGEST_REST_S = 1.0
_CONNECT_S = 2.0
_REFRESH_S = 30.0
_REFRESH_PAUSE_S = 0.2

T = TypeVar("T")
Node = tuple[str, int]
Command = tuple[bytes | str | int, ...]


def slot_of(key: bytes) -> int:
    """Of a key without braces."""
    return binascii.crc_hqx(key, 0) % SLOTS


class Link:
    """One connection to ``node``, made when it is needed."""

    def __init__(self, node: Node, settings: dict[str, Any], nursery: trio.Nursery) -> None:
        self.node = node
        self._settings = settings
        self._nursery = nursery
        self._connection: TCPConnection | None = None
        self._connecting = trio.Lock()
        self._rest_s = _FIRST_REST_S
        self._rests_until = 0.0
        self.reads_replica = False
        self.has_tls = "ssl_context" in settings

    @property
    def connection(self) -> TCPConnection | None:
        """The last one, which may have ended; None before there was one."""
        return self._connection

    @property
    def rests(self) -> bool:
        """Whether it has failed, a moment ago."""
        return trio.current_time() < self._rests_until

    async def ask(self, *commands: Command, timeout_s: float) -> list[Any]:
        """Answers, in order; raises `RedisError`, `TimeoutError` where there is none."""
        try:
            connection = await self._connected()
            requests = [
                connection.create_request(
                    bytes(name) if isinstance(name, bytes) else str(name).encode(),
                    *arguments,
                    decode=False,
                    timeout=timeout_s,
                    disconnect_on_cancellation=True,
                )
                for name, *arguments in commands
            ]
            answers = [await request for request in requests]
        except (LinkError, TimeoutError):
            self.note_failed()
            raise
        self._rest_s = _FIRST_REST_S
        self._rests_until = 0.0
        return answers

    async def _connected(self) -> TCPConnection:
        if self._connection is not None and self._connection.usable:
            return self._connection
        async with self._connecting:
            if self._connection is not None and self._connection.usable:
                return self._connection
            if self.rests:
                raise LinkError(f"{self.node[0]}:{self.node[1]} has failed a moment ago")
            made = BoundedConnection(TCPLocation(*self.node), **self._settings)
            await self._nursery.start(_run_connection, made)
            if self.reads_replica:
                made.create_request(b"READONLY", decode=False)
            self._connection = made
            return made

    def note_failed(self) -> None:
        """It rests now."""
        if self.rests:
            return
        self._rests_until = trio.current_time() + self._rest_s
        self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)


async def _run_connection(made: TCPConnection, *, task_status: trio.TaskStatus[None]) -> None:
    """Its tasks; what goes wrong after its start is told to its requests."""
    started = False

    class Status:
        def started(self, value: None = None) -> None:
            nonlocal started
            started = True
            task_status.started(value)

    try:
        await made.run(task_status=Status())
    except (OSError, RedisError) as exc:
        if not started:
            raise
        log.debug("connection to %s: %s", made.location, exc)


class Links:
    """All nodes of ``url``."""

    def __init__(self, url: RemoteUrl, nursery: trio.Nursery) -> None:
        """Raises `InvalidArgument` where the credentials can't be read."""
        self.url = url
        self._nursery = nursery
        self._settings = _settings(url)
        self._links: dict[tuple[Node, bool], Link] = {}  # of nodes that ever were
        # First slot of each range, and its nodes: the primary first.
        self._starts: list[int] = [0]
        self.ranges: list[tuple[Node, ...]] = [() if self.has_layout else url.hosts]
        self._stale = trio.Event()

    @property
    def nodes(self) -> list[Node]:
        """All that are known."""
        return list(dict.fromkeys(node for nodes in self.ranges for node in nodes))

    @property
    def primaries(self) -> list[Node]:
        """Those that take writes."""
        return list(dict.fromkeys(nodes[0] for nodes in self.ranges if nodes))

    @property
    def has_layout(self) -> bool:
        """Whether it can change which nodes there are."""
        return self.url.cluster or self.url.sentinel is not None

    def replicas_of(self, primary: Node) -> list[Node]:
        """Those that copy ``primary``."""
        found = (nodes[1:] for nodes in self.ranges if nodes and nodes[0] == primary)
        return list(dict.fromkeys(node for nodes in found for node in nodes))

    def nodes_of(self, key: bytes) -> tuple[Node, ...]:
        """Who has ``key``, the primary first; none where the slot is not served."""
        if len(self.ranges) == 1:
            return self.ranges[0]
        return self.ranges[bisect_right(self._starts, slot_of(key)) - 1]

    def link(self, node: Node, *, bulk: bool = False) -> Link:
        """To ``node``."""
        found = self._links.get((node, bulk))
        if found is None:
            found = self._links[node, bulk] = Link(node, self._settings, self._nursery)
            found.reads_replica = self.url.cluster and not bulk
        return found

    def note_failure(self) -> None:
        """The layout may have changed."""
        self._stale.set()

    async def run(self) -> None:
        """Keep the layout true."""
        if not self.has_layout:
            return
        if not self.nodes:
            self.note_failure()
        while True:
            with trio.move_on_after(_REFRESH_S):
                await self._stale.wait()
            self._stale = trio.Event()
            try:
                await self.refresh()
            except HostError as exc:
                log.debug("%s", exc)
                self._stale.set()
            await trio.sleep(_REFRESH_PAUSE_S)

    async def refresh(self) -> None:
        """Ask for the layout.  Raises `HostError` where no node answers."""
        error: Exception | None = None
        asked = [*self.nodes, *self.url.hosts] if self.url.cluster else [*self.url.hosts]
        random.shuffle(asked)
        for node in dict.fromkeys(sorted(asked, key=lambda node: self.link(node).rests)):
            try:
                with understood():
                    if self.url.cluster:
                        await self._ask_cluster(node)
                    else:
                        await self._ask_sentinel(node)
            except (RedisError, TimeoutError) as exc:
                error = exc
            else:
                return
        hosts = ", ".join(f"{host}:{port}" for host, port in self.url.hosts)
        raise HostError(f"{hosts}: {reason_of(error)}")

    async def _ask_cluster(self, node: Node) -> None:
        (found,) = await self.link(node).ask((b"CLUSTER SLOTS",), timeout_s=self.url.timeout_s)
        ranges = []
        for first, last, *nodes in found:
            ranges.append((first, last, tuple(_node(one, node) for one in nodes)))
        starts: list[int] = []
        owners: list[tuple[Node, ...]] = []
        free = 0
        for first, last, nodes in sorted(ranges):
            if first > free:
                starts.append(free)
                owners.append(())
            starts.append(first)
            owners.append(nodes)
            free = last + 1
        if free < SLOTS:
            starts.append(free)
            owners.append(())
        self._starts, self.ranges = starts, owners

    async def _ask_sentinel(self, node: Node) -> None:
        name = self.url.sentinel or ""
        primary, replicas = await self.link(node).ask(
            (b"SENTINEL GET-MASTER-ADDR-BY-NAME", name),
            (b"SENTINEL REPLICAS", name),
            timeout_s=self.url.timeout_s,
        )
        if not primary:
            raise LinkError(f"no server is called '{name}'")
        nodes = [_node(primary, node)]
        for one in replicas:
            fields = one if isinstance(one, dict) else dict(zip(one[::2], one[1::2], strict=True))
            nodes.append(_node((fields[b"ip"], fields[b"port"]), node))
        self._starts, self.ranges = [0], [tuple(nodes)]


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """Raises `LinkError` where an answer in here is of another kind than was asked for."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
        log.debug("an answer that makes no sense: %s: %s", type(exc).__name__, exc)
        raise LinkError("its answer makes no sense") from None


async def with_links(url: RemoteUrl, use: Callable[[Links], Awaitable[T]]) -> T:
    """``use(links)``, for a command.  Raises `HostError` where the server does not answer."""
    failed: Exception
    async with trio.open_nursery() as nursery:
        try:
            return await use(Links(url, nursery))
        except (FuseswapError, RedisError, TimeoutError) as exc:
            failed = exc  # the nursery would make a group of it
        finally:
            nursery.cancel_scope.cancel()
    if isinstance(failed, FuseswapError):
        raise failed
    hosts = ", ".join(f"{host}:{port}" for host, port in url.hosts)
    raise HostError(f"{hosts}: {reason_of(failed)}") from failed


def reason_of(error: BaseException | None) -> str:
    """In a few words: of coredis' errors the cause says more."""
    cause = error.__cause__ if error is not None else None
    if cause is not None:
        return reason_of(cause)
    if isinstance(error, BaseExceptionGroup):
        return reason_of(error.exceptions[0])
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or "no answer"


def _node(found: Sequence[Any], asked: Node) -> Node:
    host = found[0].decode() if found[0] else asked[0]
    port = int(found[1])
    if not 0 < port < 1 << 16:
        raise ValueError(f"{port} is no port")
    return host, port


def _settings(url: RemoteUrl) -> dict[str, Any]:
    credentials = url.read_credentials()
    settings: dict[str, Any] = {
        "username": credentials.user,
        "password": credentials.password,
        "db": url.database,
        "connect_timeout": min(_CONNECT_S, url.timeout_s),
        "stream_timeout": url.timeout_s,
        "client_name": "fuseswap",
    }
    if url.tls:
        settings["ssl_context"] = ssl.create_default_context(cadata=url.read_ca())
    return settings
