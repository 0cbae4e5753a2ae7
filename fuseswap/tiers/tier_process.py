"""The tier process: a client of a server or of a plugin, apart from the worker that serves.

    python -m fuseswap.tiers.tier_process JSON          (`Setup`)

The protocol is in ``remote_wire.py``.  One task for each request in flight, of which there are at
most as many as places.  A read that the client takes at once has none (`LastingClient`).  A segment
is copied out of its place before its task begins.  The bytes of a read are copied into its place
just before the answer, if the worker is still the same.

It ends by itself with `Ended`: told so, or without a worker and a supervisor, or where it has grown
beyond `Setup.memory_limit_bytes`.  The supervisor starts another one except after `Ended.TOLD` and
`Ended.ALONE`; then the worker sends all that is in flight again.

Its memory is locked by default, and it is marked IO_FLUSHER as the worker is.  A page that lies
at its server waits for this process.  If its own memory were swapped out it would wait for itself.
See also ``tier_process_memory.py``.
"""

from __future__ import annotations

import enum
import errno
import json
import logging
import math
import os
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import trio

from fuseswap.errors import FuseswapError, HostError, reason_of
from fuseswap.linux import visible
from fuseswap.linux.process import anonymous_bytes
from fuseswap.linux.protect import dump_no_core, protect
from fuseswap.plugins.entry_points import Plugin, find
from fuseswap.tiers import remote_wire as wire
from fuseswap.tiers.tier_client import ClientSetup, MakeClient, TierClient
from fuseswap.tiers.tier_process_memory import ProcessMemory
from fuseswap.units import MIB, PAGE_SIZE

log = logging.getLogger(__name__)

_CLEAR_S = 30.0
_STALL_S = 0.25  # more than a busy machine takes
_LOGGED = 20  # faults and stalls, each
MEMORY_LIMIT_BYTES = 256 * MIB


class Ended(enum.IntEnum):
    """Why it ended, as its exit status."""

    TOLD = 0
    FAILED = 1
    ALONE = 3
    GROWN = 4


class Setup(NamedTuple):
    """Its argument, as JSON.

    ``socket`` and ``memory`` are descriptors that it inherits.  ``kind`` chooses the client.
    ``locked``: its memory is.  Without that, its pages may be swapped out.
    """

    kind: str
    name: str
    rest: str
    identity: dict[str, str]
    extent_count: int
    socket: int
    memory: int
    write_timeout_s: float = 5.0
    locked: bool = True
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES

    def client_setup(self) -> ClientSetup:
        """The client's part."""
        return ClientSetup(
            self.name,
            self.rest,
            self.identity,
            self.extent_count,
            self.write_timeout_s,
        )


class TierProcess:
    """Requests of a worker, handed to ``client``."""

    def __init__(
        self,
        setup: Setup,
        client: TierClient,
        label: str = "",
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """``label``: for the log.  ``look`` is called at each pulse."""
        self._look = look
        self._setup = setup
        self._label = label or setup.name
        self._stalls = 0
        self._faults = 0
        self._client = client
        self._read_within = getattr(client, "read_within", None)
        self._begin_read = getattr(client, "begin_read", None)
        self._flush: Callable[[], None] = getattr(client, "flush", lambda: None)
        self._socket = socket.socket(fileno=setup.socket)
        self._memory = wire.map_memory(setup.memory)
        self._incarnation = int.from_bytes(os.urandom(8), "little") | 1
        self._epoch = 0
        self._writing: set[tuple[int, int]] = set()  # extents and generations, one a place
        self._release_after: set[tuple[int, int]] = set()  # of those
        self._waiting = trio.Lock()
        self._ended = Ended.TOLD

    async def run(self) -> Ended:
        """Until it is told to end, or alone."""
        with self._socket:
            return await self._run()

    async def _run(self) -> Ended:
        wire.beat(self._memory, self._incarnation)  # who hears the hello finds it
        async with trio.open_nursery() as nursery:
            if run := getattr(self._client, "run", None):
                nursery.start_soon(run)
            nursery.start_soon(self._beat, nursery.cancel_scope)
            await self._answer(wire.HELLO, 0)
            await self._serve(nursery)
            nursery.cancel_scope.cancel()
        return self._ended

    async def _serve(self, nursery: trio.Nursery) -> None:
        while True:
            try:
                packet = self._socket.recv(wire.REQUEST.size, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._flush()
                await trio.lowlevel.wait_readable(self._socket)
                continue
            if not packet:
                self._ended = Ended.ALONE
                return
            if len(packet) != wire.REQUEST.size:
                continue
            request = wire.Packet(*wire.REQUEST.unpack(packet))
            if request.operation == wire.END:
                await self._end(forget=request.length == wire.FORGET)
                return
            if request.operation == wire.BEGIN:
                self._epoch = request.epoch
                await self._answer(wire.HELLO, 0)
            elif self._is_heard(request) and self._is_possible(request):
                self._begin(nursery, request)

    def _begin(self, nursery: trio.Nursery, request: wire.Packet) -> None:
        key = request.extent, request.generation
        if request.operation == wire.WRITE:
            data = self._memory[request.place : request.place + request.length]
            self._writing.add(key)
            nursery.start_soon(self._write, request, data)
        elif request.operation == wire.READ:
            limit_s = request.limit_ms / 1000 if request.limit_ms else math.inf
            if not self._read_directly(nursery, request, limit_s):
                nursery.start_soon(self._read, request, limit_s)
        elif key in self._writing:
            self._release_after.add(key)
        else:
            nursery.start_soon(self._release, *key)

    def _is_possible(self, request: wire.Packet) -> bool:
        """Whether it is a request, of a place that there is."""
        if request.operation == wire.RELEASE:
            return True
        end = request.place + request.length
        is_place = request.place >= PAGE_SIZE and end <= wire.VERSIONS_START
        return request.operation in (wire.READ, wire.WRITE) and is_place

    def _is_heard(self, request: wire.Packet) -> bool:
        return (request.epoch, request.incarnation) == (self._epoch, self._incarnation)

    async def _write(self, request: wire.Packet, data: bytes) -> None:
        key = request.extent, request.generation
        code = 0
        try:
            await self._client.write(*key, data)
        except Exception as exc:
            code = self._code_of(exc, "write")
        self._writing.discard(key)
        await self._done(request, code)
        if key in self._release_after:
            self._release_after.discard(key)
            await self._release(*key)

    def _read_directly(self, nursery: trio.Nursery, request: wire.Packet, limit_s: float) -> bool:
        """Whether the client has taken it without a task of ours."""
        if self._begin_read is None:
            return False
        began = trio.current_time()

        def done(data: bytes | None) -> None:
            if data is None:
                left_s = limit_s - (trio.current_time() - began)
                nursery.start_soon(self._read, request, left_s)
            elif self._is_heard(request):
                self._memory[request.place : request.place + request.length] = data
                if not self._send(self._packet(wire.DONE, request.number)):
                    nursery.start_soon(self._done, request, 0)

        what = request.extent, request.generation, request.offset, request.length
        return bool(self._begin_read(*what, limit_s, done))

    async def _read(self, request: wire.Packet, limit_s: float) -> None:
        code = 0
        data = b""
        what = request.extent, request.generation, request.offset, request.length
        try:
            if self._read_within is not None:
                data = await self._read_within(*what, limit_s)
            else:
                code = errno.ETIMEDOUT
                with trio.move_on_after(limit_s):
                    data = await self._client.read(*what)
                    code = 0
        except Exception as exc:
            code = self._code_of(exc, "read")
        if not code and len(data) != request.length:
            log.error("%s: %d of %d bytes were read", self._label, len(data), request.length)
            code = errno.EIO
        if not code and self._is_heard(request):
            self._memory[request.place : request.place + request.length] = data
        await self._done(request, code)

    async def _release(self, extent: int, generation: int) -> None:
        try:
            await self._client.release(extent, generation)
        except Exception as exc:
            self._code_of(exc, "release")

    def _code_of(self, exc: Exception, what: str) -> int:
        if isinstance(exc, OSError):
            log.debug("%s: %s: %s", self._label, what, exc)
            return exc.errno or errno.EIO
        self._faults += 1
        if self._faults <= _LOGGED:
            log.error("%s: %s: %s: %s", self._label, what, type(exc).__name__, exc)
        return errno.EIO

    async def _done(self, request: wire.Packet, code: int) -> None:
        if self._is_heard(request):
            await self._answer(wire.DONE, request.number, code)

    async def _answer(self, operation: int, number: int, code: int = 0) -> None:
        answer = self._packet(operation, number, code)
        while not self._send(answer):
            async with self._waiting:  # only one task may wait for a socket
                await trio.lowlevel.wait_writable(self._socket)

    def _packet(self, operation: int, number: int, code: int = 0) -> bytes:
        return wire.ANSWER.pack(operation, code, self._epoch, self._incarnation, number)

    def _send(self, answer: bytes) -> bool:
        """Whether the socket took it; most times it does, and no task has to wait."""
        try:
            self._socket.send(answer, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True  # there is no other end: `_serve` ends
        return True

    async def _end(self, *, forget: bool) -> None:
        if forget and (clear := getattr(self._client, "clear", None)):
            with trio.move_on_after(_CLEAR_S) as scope:
                await clear()
            if scope.cancelled_caught:
                log.error("%s: not all was deleted in %d s", self._setup.name, _CLEAR_S)

    async def _beat(self, scope: trio.CancelScope) -> None:
        while True:
            wire.beat(self._memory, self._incarnation)
            self._look()
            if anonymous_bytes() > self._setup.memory_limit_bytes:
                log.error("%s: its client has grown to too much memory", self._label)
                self._ended = Ended.GROWN
                scope.cancel()
            due = trio.current_time() + wire.PULSE_S
            await trio.sleep_until(due)
            self._note_stall(trio.current_time() - due)

    def _note_stall(self, seconds: float) -> None:
        """No other read or write went on meanwhile."""
        if seconds < _STALL_S:
            return
        self._stalls += 1
        if self._stalls <= _LOGGED:
            what = "its client has blocked it, or the machine has"
            log.warning("%s: stood still for %.1f s: %s", self._label, seconds, what)


def _valkey(setup: ClientSetup) -> TierClient:
    """Imported where it is used: it adds 17 MB."""
    from fuseswap.tiers.valkey_client import ValkeyClient

    return ValkeyClient.open(setup)


def _plugin(kind: str) -> tuple[MakeClient, str]:
    """That of another package, and its label.

    Raises `FuseswapError` where there is none, or it does not load.
    """
    for plugin in find("tier"):
        if plugin.name == kind:
            log.info("%s is loaded", plugin)
            return partial(_made, plugin, plugin.load()), str(plugin)
    raise FuseswapError(f"no client for tiers of kind '{kind}'")


def _made(plugin: Plugin, client: MakeClient, setup: ClientSetup) -> TierClient:
    try:
        return client(setup)
    except BaseException as exc:
        raise HostError(f"{plugin} can't be made: {reason_of(exc)}") from None


CLIENTS: Mapping[str, MakeClient] = {"valkey": _valkey}


def run_process(setup: Setup, clients: Mapping[str, MakeClient]) -> Ended:
    """Serve until the end.  Raises `FuseswapError` where there is no such client."""
    label = setup.name
    make = clients.get(setup.kind)
    if make is None:
        make, plugin = _plugin(setup.kind)
        label = f"{setup.name}: {plugin}"
    client = make(setup.client_setup())
    if not setup.locked:
        return trio.run(TierProcess(setup, client, label).run)
    protect(populate=True)
    return trio.run(TierProcess(setup, client, label, ProcessMemory().look).run)


class _VisibleFormatter(logging.Formatter):
    """Lines of the log, which may have been made of what a server sent."""

    def format(self, record: logging.LogRecord) -> str:
        return visible.lines(super().format(record))


def main(argument: str, clients: Mapping[str, MakeClient] = CLIENTS) -> int:
    """As a command; one line on stderr where it can't begin."""
    handler = logging.StreamHandler()
    handler.setFormatter(_VisibleFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("coredis").setLevel(logging.CRITICAL)
    try:
        return run_process(Setup(**json.loads(argument)), clients)
    except (FuseswapError, ImportError, TypeError, ValueError) as exc:
        print(f"tier process: {visible.one_line(str(exc))}", file=sys.stderr)
        return Ended.FAILED


if __name__ == "__main__":
    os.umask(0o077)
    dump_no_core()  # it has credentials, and segments
    sys.exit(main(sys.argv[1]))
