"""Faults on purpose: a tier that fails as a file says.  For tests, and for nothing else.

``worker.py`` puts it around the tier where the environment variable `VARIABLE` names a
JSON file.  The file is looked at again before each call, so that a device that is up can
be made to fail and to heal; replace it in one step (rename):

    {"write": {"errno": "EIO", "probability": 0.5}, "read": {"latency_s": 2}}

For reads and for writes, all of it optional:

    latency_s     seconds a call takes before anything else happens
    errno         name of the error a call fails with
    short         a pwrite writes half of what it is given, and of one block nothing
    flip          one bit: of what a read returns (not if it is made again), or of what is on
                  the device after a write
    probability   of each of the last three, 0 to 1 (1); for ``short`` of each pwrite

A short write is made below `FileTier`, so that its own handling runs; all else around it.
"""

from __future__ import annotations

import errno
import json
import logging
import mmap
import os
import random
from dataclasses import dataclass, fields
from typing import Any

import trio

from fuseswap.errors import InvalidArgument
from fuseswap.tiers import Tier
from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)

VARIABLE = "FUSESWAP_FAULTS"


@dataclass(frozen=True, slots=True)
class Rule:
    """What goes wrong with the calls of one direction."""

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
        """Whether it is this call that is hit."""
        return random.random() < self.probability


class Faults:
    """The rules in ``path``, as they are by now.  Raises `InvalidArgument` where they are wrong."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = self._stamp()
        self._write, self._read = self._load()

    @property
    def write(self) -> Rule:
        """For writes."""
        self._look()
        return self._write

    @property
    def read(self) -> Rule:
        """For reads."""
        self._look()
        return self._read

    def pwrite(self, fd: int, data: memoryview, at: int) -> int:
        """`os.pwrite`, sometimes short.  Called from the I/O threads."""
        rule = self._write
        if rule.short and rule.hits():
            half = len(data) // 2 // PAGE_SIZE * PAGE_SIZE
            return os.pwrite(fd, data[:half], at) if half else 0
        return os.pwrite(fd, data, at)

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


class FaultyTier:
    """``tier`` with ``faults``; see `fuseswap.tiers.Tier`."""

    def __init__(self, tier: Tier, faults: Faults) -> None:
        self._tier = tier
        self._faults = faults
        self._flipped: set[tuple[int, int, int]] = set()  # reads
        self.extent_count = tier.extent_count

    async def write(self, extent: int, segment: memoryview) -> None:
        """See `Tier.write`."""
        rule = self._faults.write
        await _delay(rule)
        if rule.flip and rule.hits():
            with mmap.mmap(-1, len(segment)) as copy:  # page-aligned, as O_DIRECT wants it
                copy[:] = segment
                _flip_a_bit(copy)
                with memoryview(copy) as wrong:
                    await self._tier.write(extent, wrong)
        else:
            await self._tier.write(extent, segment)

    async def read(self, extent: int, offset: int, length: int) -> bytes:
        """See `Tier.read`."""
        rule = self._faults.read
        await _delay(rule)
        data = await self._tier.read(extent, offset, length)
        place = extent, offset, length
        if place in self._flipped:
            self._flipped.remove(place)
        elif rule.flip and rule.hits():
            self._flipped.add(place)
            wrong = bytearray(data)
            _flip_a_bit(wrong)
            return bytes(wrong)
        return data


async def _delay(rule: Rule) -> None:
    """Wait and fail as ``rule`` says."""
    if rule.latency_s:
        await trio.sleep(rule.latency_s)
    if rule.errno and rule.hits():
        raise OSError(rule.errno, os.strerror(rule.errno))


def _flip_a_bit(data: bytearray | mmap.mmap) -> None:
    at = random.randrange(len(data) * 8)
    data[at >> 3] ^= 1 << (at & 7)
