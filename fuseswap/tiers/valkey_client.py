"""The client of a Valkey or Redis server: segments are values, reads are GETRANGE.

    write    SET, and WAIT where copies were asked for; ENOSPC where the server is full
    read     GETRANGE at the primary, without a task (``valkey_direct.py``); where that fails at a
             replica; and again, until it is too late
    release  UNLINK, many together, as well as it goes

A key names one write of one segment (``remote_identity.py``).  So a replica has the right bytes or
none: reading there is safe.  It is missing (ENODATA) where no node has it, and its primary was
asked twice.

A try lasts ``timeout`` of the address at most.  A read is tried again for as long as it may take;
then its nodes are silent (``valkey_silence.py``).
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import trio
from coredis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    MovedError,
    RedisError,
    ResponseError,
)
from coredis.exceptions import ConnectionError as LinkError

from fuseswap.errors import HostError
from fuseswap.tiers.remote_identity import Identity, segment_key
from fuseswap.tiers.remote_url import parse_url
from fuseswap.tiers.tier_client import ClientSetup
from fuseswap.tiers.valkey_direct import DirectReads
from fuseswap.tiers.valkey_links import Links, Node, reason_of
from fuseswap.tiers.valkey_registry import delete_device, note_alive
from fuseswap.tiers.valkey_silence import SilentNodes, is_down
from fuseswap.units import KIB

log = logging.getLogger(__name__)

_SMALL_BYTES = 160 * KIB
_PAUSES_S = (0.02, 0.05, 0.1, 0.2)
_RELEASES = 65536  # that wait for the server; 6 MB.  The oldest is left there then
_RELEASE_BATCH = 256
_HEARTBEAT_S = 60.0
_HEARTBEAT_AGAIN_S = 0.5
# A write takes as long as the network needs for it, so it has more time than a read.
_WRITE_TIMES = 5
_LONGEST_READ_S = 600.0
_DIRECT_TIMES = 3  # so many tries have to be left, or a read has no time for a first one apart
_TRIED_AGAIN = (LinkError, TimeoutError)
# Of servers that start, or whose primary is gone: they will be well again.
_PASSING = ("CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS")


class ValkeyClient:
    """A `fuseswap.tiers.tier_client.LastingClient`."""

    def __init__(self, setup: ClientSetup) -> None:
        """Raises `InvalidArgument` where the address or its credentials are wrong."""
        self.url = parse_url(setup.rest if "://" in setup.rest else f"valkey:{setup.rest}")
        self.url.read_credentials()
        self._setup = setup
        self._identity = Identity(**setup.identity)
        self._links: Links | None = None
        self._ready = trio.Event()
        self._releases: deque[bytes] = deque(maxlen=_RELEASES)
        self._to_release = trio.Event()
        self._registered = trio.Event()
        self._failing: set[Node | None] = set()  # primaries that there ever were
        self._silent: SilentNodes | None = None
        self._direct = DirectReads(self.url.timeout_s)

    @classmethod
    def open(cls, setup: ClientSetup) -> ValkeyClient:
        """See `fuseswap.tiers.tier_client.MakeClient`."""
        return cls(setup)

    async def run(self) -> None:
        """See `LastingClient`."""
        async with trio.open_nursery() as nursery:
            self._links = Links(self.url, nursery)
            self._silent = SilentNodes(self._setup.name, self._links, nursery)
            if self._links.has_layout:
                with contextlib.suppress(HostError):  # its task asks again
                    await self._links.refresh()
            nursery.start_soon(self._links.run)
            nursery.start_soon(self._direct.run)
            self._ready.set()
            nursery.start_soon(self._release_some)
            nursery.start_soon(self._say_alive)

    async def clear(self) -> None:
        """See `LastingClient`."""
        try:
            await delete_device(await self._open(), self._identity.id)
        except (HostError, RedisError, TimeoutError) as exc:
            log.warning("%s: not deleted at the server: %s", self._setup.name, reason_of(exc))

    # -- segments ----------------------------------------------------------------------

    async def write(self, extent: int, generation: int, data: bytes) -> None:
        """See `TierClient`."""
        key = segment_key(self._identity.id, extent, generation)
        commands: list[tuple[Any, ...]] = [(b"SET", key, data)]
        timeout_s = _WRITE_TIMES * self.url.timeout_s
        if self.url.replicas:
            wait_ms = int(min(timeout_s / 2, self._setup.write_timeout_s * 0.7) * 1000)
            commands.append((b"WAIT", self.url.replicas, wait_ms))
        deadline = trio.current_time() + self._setup.write_timeout_s
        with trio.move_on_at(deadline):
            await self._registered.wait()
        found = await self._try(key, commands, deadline, timeout_s, bulk=True, replicas=False)
        if not self.url.replicas:
            return
        copies = found[1] if isinstance(found[1], int) else 0
        if copies < self.url.replicas:
            what = f"{copies} of {self.url.replicas} replicas have it"
            raise OSError(errno.EIO, f"{self._setup.name}: {what}")

    async def read(self, extent: int, generation: int, offset: int, length: int) -> bytes:
        """See `TierClient`."""
        return await self.read_within(extent, generation, offset, length, _LONGEST_READ_S)

    async def read_within(
        self, extent: int, generation: int, offset: int, length: int, seconds: float
    ) -> bytes:
        """See `LastingClient`."""
        key = segment_key(self._identity.id, extent, generation)
        bulk = length > _SMALL_BYTES
        commands: list[tuple[Any, ...]] = [(b"GETRANGE", key, offset, offset + length - 1)]
        deadline = trio.current_time() + min(seconds, _LONGEST_READ_S)
        timeout_s = self.url.timeout_s * (_WRITE_TIMES if bulk else 1)
        (found,) = await self._try(key, commands, deadline, timeout_s, bulk=bulk, replicas=True)
        if not isinstance(found, bytes) or len(found) > length:  # of a number: so many zeros
            raise OSError(errno.EIO, f"{self._setup.name}: the server's answer makes no sense")
        if not found:
            raise OSError(errno.ENODATA, f"{self._setup.name}: the server has forgotten a segment")
        return found

    def begin_read(
        self,
        extent: int,
        generation: int,
        offset: int,
        length: int,
        seconds: float,
        done: Callable[[bytes | None], None],
    ) -> bool:
        """See `LastingClient`.  Not while a node fails: who asks then tells of it."""
        links, silent = self._links, self._silent
        if links is None or silent is None or silent.nodes or self._failing:
            return False
        if length > _SMALL_BYTES or seconds < _DIRECT_TIMES * self.url.timeout_s:
            return False
        key = segment_key(self._identity.id, extent, generation)
        nodes = links.nodes_of(key)
        if not nodes:
            return False
        node = nodes[0]
        began = trio.current_time()

        def ended(data: bytes | None) -> None:
            if data is not None:
                silent.answered[node] = began
            done(data)

        return self._direct.begin(links.link(node), key, offset, length, ended)

    def flush(self) -> None:
        """See `LastingClient`."""
        self._direct.flush()

    async def release(self, extent: int, generation: int) -> None:
        """See `TierClient`."""
        self._releases.append(segment_key(self._identity.id, extent, generation))
        self._to_release.set()

    # -- tries -------------------------------------------------------------------------

    async def _open(self) -> Links:
        await self._ready.wait()
        assert self._links is not None
        return self._links

    async def _try(
        self,
        key: bytes,
        commands: list[tuple[Any, ...]],
        deadline: float,
        timeout_s: float,
        *,
        bulk: bool,
        replicas: bool,
    ) -> list[Any]:
        """Answers of the first node that has them.  Raises `OSError`, ETIMEDOUT at ``deadline``.

        Of a read they are empty where the primary has no such key, and no replica has it.
        """
        links = self._links or await self._open()
        assert self._silent is not None
        began = trio.current_time()
        tries = 0
        missing = 0
        error: Exception = TimeoutError("no node has this slot")
        nodes: Sequence[Node] = ()
        while (left_s := deadline - trio.current_time()) > 0:
            nodes = _in_order(links, key, bulk=bulk, replicas=replicas)
            if self._silent.nodes and replicas and self._silent.has_all(nodes):
                error = TimeoutError("it is silent")
                break
            # In a last pass there is time for each of them.
            try_s = min(left_s / max(1, len(nodes)), timeout_s)
            for node in nodes:
                try:
                    found = await self._ask(links, node, commands, try_s, bulk)
                except _TRIED_AGAIN as exc:
                    error = exc
                    links.note_failure()
                    continue
                self._silent.answered[node] = began
                if found is not None and found[0] != b"":
                    if self._failing:
                        self._note(links, key, None)
                    return found
                missing += found is not None and node in links.primaries
            if missing > 1:
                return [b""]
            if not missing:
                self._note(links, key, error)
            await self._pause(links, tries, missing)
            tries += 1
        if replicas:
            self._silent.note_time_out(nodes, key, began)
        raise OSError(errno.ETIMEDOUT, f"{self._setup.name}: {reason_of(error)}")

    async def _pause(self, links: Links, tries: int, missing: int) -> None:
        """Before the next try.

        A primary that has died and comes again empty is not a primary any more, but our layout
        may be older.  So it is asked for a key that is missing once more, with the layout of now.
        """
        if missing and links.has_layout:
            with contextlib.suppress(HostError):
                await links.refresh()
            return
        links.note_failure()
        await trio.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])

    async def _ask(
        self,
        links: Links,
        node: Node,
        commands: list[tuple[Any, ...]],
        timeout_s: float,
        bulk: bool,
    ) -> list[Any] | None:
        """None where this node can't say now, or has sent us to another, which couldn't either."""
        try:
            return await links.link(node, bulk=bulk).ask(*commands, timeout_s=timeout_s)
        except AskError as exc:
            links.note_failure()
            asking = [] if isinstance(exc, MovedError) else [(b"ASKING",)]
            other = links.link((exc.host or node[0], exc.port), bulk=bulk)
            try:
                found = await other.ask(*asking, *commands, timeout_s=timeout_s)
            except AskError:
                return None
            return found[len(asking) :]
        except ResponseError as exc:
            if is_down(exc):
                raise LinkError(str(exc)) from exc
            self._raise_unless_passing(exc)
            return None

    def _raise_unless_passing(self, exc: ResponseError) -> None:
        """Raises `OSError` where it will not be better soon."""
        words = f"{exc.__class__.__name__} {exc}"
        if "OOM" in words:
            raise OSError(errno.ENOSPC, f"{self._setup.name}: the server is full") from exc
        if isinstance(exc, AuthenticationError | AuthorizationError):
            raise OSError(errno.EACCES, f"{self._setup.name}: {exc}") from exc
        passing = any(word.lower() in words.lower() for word in _PASSING)
        if not passing:
            raise OSError(errno.EIO, f"{self._setup.name}: {exc}") from exc

    def _note(self, links: Links, key: bytes, error: Exception | None) -> None:
        """In the log once for each primary, when it begins and when it is over."""
        primary = next(iter(links.nodes_of(key)), None)
        if (error is not None) == (primary in self._failing):
            return
        what = "the server" if primary is None else f"{primary[0]}:{primary[1]}"
        if error is not None:
            self._failing.add(primary)
            log.warning("%s: %s does not answer: %s", self._setup.name, what, reason_of(error))
        else:
            self._failing.discard(primary)
            log.warning("%s: %s answers again", self._setup.name, what)

    # -- tasks -------------------------------------------------------------------------

    async def _release_some(self) -> None:
        links = await self._open()
        while True:
            await self._to_release.wait()
            self._to_release = trio.Event()
            await trio.sleep(_PAUSES_S[0])  # more may come
            while self._releases:
                count = min(_RELEASE_BATCH, len(self._releases))
                keys = [self._releases.popleft() for _ in range(count)]
                if left := await self._unlink(links, keys):
                    links.note_failure()
                    self._releases.extendleft(left)
                    await trio.sleep(1.0)

    async def _unlink(self, links: Links, keys: list[bytes]) -> list[bytes]:
        """Returns those that are to be tried again."""
        of_node: dict[Node, list[bytes]] = {}
        for key in keys:
            nodes = links.nodes_of(key)
            of_node.setdefault(nodes[0] if nodes else ("", 0), []).append(key)
        left = of_node.pop(("", 0), [])
        for node, some in of_node.items():
            commands = [(b"UNLINK", key) for key in some]
            try:
                link = links.link(node, bulk=True)
                await link.ask(*commands, timeout_s=_WRITE_TIMES * self.url.timeout_s)
            except (RedisError, TimeoutError):
                left += some
        return left

    async def _say_alive(self) -> None:
        links = await self._open()
        while True:
            try:
                await note_alive(links, self._identity)
                self._registered.set()
                pause_s = _HEARTBEAT_S
            except (HostError, RedisError, TimeoutError):
                pause_s = _HEARTBEAT_AGAIN_S
            await trio.sleep(pause_s)


def _in_order(links: Links, key: bytes, *, bulk: bool, replicas: bool) -> Sequence[Node]:
    """The primary first, unless it has failed a moment ago."""
    nodes = links.nodes_of(key)
    if not replicas or len(nodes) < 2 or not links.link(nodes[0], bulk=bulk).rests:
        return nodes if replicas else nodes[:1]
    return sorted(nodes, key=lambda node: links.link(node, bulk=bulk).rests)
