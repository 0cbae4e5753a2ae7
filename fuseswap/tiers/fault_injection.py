"""Faults on purpose: I/O that fails as a file says.  For tests, and for nothing else.

``worker.py`` puts it around the engine of ``direct_io.py`` where the environment variable
`VARIABLE` names a JSON file; for root only with ``up --testing``.  The file is looked at again
before each request, so that a device that is up can be made to fail and to heal.  Replace it in
one step (rename):

    {"write": {"errno": "EIO", "probability": 0.5}, "read": {"latency_s": 2}}

For reads and for writes, all of it optional:

    latency_s     seconds a request takes before anything else happens
    errno         name of the error it fails with
    short         a write writes half of what it is given, and of one block nothing
    flip          one bit: of the blocks a read returns (not if they are read again), or of
                  what is on the device after a write
    probability   of each of the last three, 0 to 1 (1)

All that lies above, `DirectFile` with its short writes and both layouts, is what is tested.
"""

from __future__ import annotations

import errno
import json
import logging
import mmap
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import trio

from fuseswap.errors import InvalidArgument
from fuseswap.tiers.io_engine import Ended, Engine
from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)

VARIABLE = "FUSESWAP_FAULTS"


@dataclass(frozen=True, slots=True)
class Rule:
    """What goes wrong with the requests of one direction."""

    errno: int = 0
    probability: float = 1.0
    latency_s: float = 0.0
    short: bool = False
    flip: bool = False

    @classmethod
    def parse(cls, found: Any) -> Rule:
        """A rule from decoded JSON; raises `InvalidArgument`."""
        known = {field.name for field in fields(cls)}
        if not isinstance(found, dict) or not found.keys() <= known:
            raise InvalidArgument(f"{json.dumps(found)} is not made of {', '.join(sorted(known))}")
        values = dict(found)
        if "errno" in values:
            code = getattr(errno, str(values["errno"]), None)
            if not isinstance(code, int):
                raise InvalidArgument(f"{json.dumps(values['errno'])} is no errno")
            values["errno"] = code
        for name, most in (("probability", 1.0), ("latency_s", 3600.0)):
            value = values.get(name, 0)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= most:
                raise InvalidArgument(f"{name} {json.dumps(value)} is not between 0 and {most:g}")
        for name in ("short", "flip"):
            if not isinstance(values.get(name, False), bool):
                raise InvalidArgument(f"{name} is neither true nor false")
        return cls(**values)

    def hits(self) -> bool:
        """Whether it is this request that is hit."""
        return random.random() < self.probability


class Faults:
    """The rules in ``path``, as they are by now.  Raises `InvalidArgument` where they are wrong."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = self._stamp()
        self._write, self._read = self._load()

    def rule(self, *, write: bool) -> Rule:
        """For the next write, or read."""
        self._look()
        return self._write if write else self._read

    def _look(self) -> None:
        """Take over what has changed; where that is wrong, keep what there was and say so."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._write, self._read = self._load()
        except InvalidArgument as exc:
            log.error("%s; going on as before", exc)

    def _stamp(self) -> tuple[int, int] | None:
        """Changes when the file does."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def _load(self) -> tuple[Rule, Rule]:
        try:
            with open(self._path, "rb") as file:
                found = json.load(file)
            if not isinstance(found, dict) or not found.keys() <= {"write", "read"}:
                raise InvalidArgument("it is not an object of 'write' and 'read'")
            write, read = Rule.parse(found.get("write", {})), Rule.parse(found.get("read", {}))
            if read.short:
                raise InvalidArgument("only a write can be short")
        except OSError as exc:
            raise InvalidArgument(f"{VARIABLE}: {self._path}: {exc.strerror}") from exc
        except (ValueError, InvalidArgument) as exc:
            raise InvalidArgument(f"{VARIABLE}: {self._path}: {exc}") from exc
        log.warning("faults on purpose (%s): %s", self._path, json.dumps(found))
        return write, read


class FaultyEngine:
    """``engine`` with ``faults``; see `fuseswap.tiers.io_engine.Engine`."""

    def __init__(self, engine: Engine, faults: Faults) -> None:
        self._engine = engine
        self._faults = faults
        self._held = 0
        self._flipped: set[int] = set()  # blocks of the file, by where they lie

    @property
    def in_flight(self) -> int:
        """See `Engine`."""
        return self._engine.in_flight + self._held

    def know(self, fd: int) -> None:
        """See `Engine`."""
        self._engine.know(fd)

    def forget(self, fd: int) -> None:
        """See `Engine`."""
        self._engine.forget(fd)

    def submit(self, *, write: bool, fd: int, memory: memoryview, at: int, ended: Ended) -> None:
        """See `Engine`."""
        rule = self._faults.rule(write=write)
        if write:
            begin = partial(self._write, rule, fd, memory, at, ended)
        else:
            begin = partial(self._read, rule, fd, memory, at, ended)
        if rule.errno and rule.hits():
            begin = partial(ended, -rule.errno)
        if rule.latency_s:
            self._held += 1
            trio.lowlevel.spawn_system_task(self._begin_later, rule.latency_s, begin)
        elif rule.errno:
            self._held += 1
            trio.lowlevel.current_trio_token().run_sync_soon(self._begin, begin)
        else:
            begin()

    async def _begin_later(self, latency_s: float, begin: Callable[[], None]) -> None:
        await trio.sleep(latency_s)
        self._begin(begin)

    def _begin(self, begin: Callable[[], None]) -> None:
        self._held -= 1
        begin()

    def _write(self, rule: Rule, fd: int, memory: memoryview, at: int, ended: Ended) -> None:
        if rule.short and rule.hits():
            half = len(memory) // 2 // PAGE_SIZE * PAGE_SIZE
            if not half:
                self._held += 1
                nothing = partial(ended, 0)
                trio.lowlevel.current_trio_token().run_sync_soon(self._begin, nothing)
                return
            memory = memory[:half]
        if rule.flip and rule.hits():
            copy = memoryview(mmap.mmap(-1, len(memory)))  # page-aligned, as O_DIRECT wants it
            copy[:] = memory
            _flip_a_bit(copy)
            memory = copy
        self._engine.submit(write=True, fd=fd, memory=memory, at=at, ended=ended)

    def _read(self, rule: Rule, fd: int, memory: memoryview, at: int, ended: Ended) -> None:
        if not rule.flip:
            self._engine.submit(write=False, fd=fd, memory=memory, at=at, ended=ended)
            return

        def end(count: int) -> None:
            blocks = set(range(at // PAGE_SIZE, (at + max(count, 0)) // PAGE_SIZE))
            if self._flipped & blocks:
                self._flipped -= blocks
            elif blocks and rule.hits():
                self._flipped.add((at + _flip_a_bit(memory[:count])) // PAGE_SIZE)
            ended(count)

        self._engine.submit(write=False, fd=fd, memory=memory, at=at, ended=end)

    def reap(self) -> bool:
        """See `Engine`."""
        return self._engine.reap()

    async def run(self) -> None:
        """See `Engine`."""
        await self._engine.run()

    def close(self) -> None:
        """See `Engine`; a request that is held back is never begun."""
        self._engine.close()


def with_faults(engine: Engine) -> Engine:
    """``engine``, made to fail where a test asks for it.  Raises `InvalidArgument`."""
    path = os.environ.get(VARIABLE)
    return engine if path is None else FaultyEngine(engine, Faults(path))


def _flip_a_bit(data: memoryview) -> int:
    """Returns the place of its byte."""
    at = random.randrange(len(data) * 8)
    data[at >> 3] ^= 1 << (at & 7)
    return at >> 3
