"""Plugins that do what plugins must not; each is right often enough to be chosen."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence

FAULTY_EVERY = 50  # calls


class _Zlib:
    """zlib; every so often a call goes through `spoil`."""

    name = ""
    releases_gil = True

    def __init__(self) -> None:
        self._calls = 0

    def spoil(self, result: bytes) -> bytes:
        """What is returned instead."""
        raise NotImplementedError

    def compressor(self, level: int | None) -> Callable[[bytes | memoryview], bytes]:
        return lambda page: self._maybe(zlib.compress(page, 1))

    def decompressor(self) -> Callable[[bytes], bytes]:
        return lambda payload: self._maybe(zlib.decompress(payload))

    def _maybe(self, result: bytes) -> bytes:
        self._calls += 1
        return result if self._calls % FAULTY_EVERY else self.spoil(result)


class Raising(_Zlib):
    """Raises what few catch."""

    name = "raising"

    def spoil(self, result: bytes) -> bytes:
        raise SystemExit("a plugin wants to go home")


class Blocking(_Zlib):
    """Blocks for a second."""

    name = "blocking"

    def spoil(self, result: bytes) -> bytes:
        time.sleep(1)
        return result


class Lying(_Zlib):
    """Returns other bytes of the right length."""

    name = "lying"

    def spoil(self, result: bytes) -> bytes:
        return result[:-1] + bytes([result[-1] ^ 1])


class Hanging(_Zlib):
    """Never returns."""

    name = "hanging"

    def spoil(self, result: bytes) -> bytes:
        while True:
            time.sleep(1)


class Half:
    """A tier that can't be read."""

    async def write(self, extent: int, generation: int, data: bytes) -> None:
        """Nothing."""


class RaisingPolicy:
    """Raises."""

    def evict_which(self, candidates: Sequence[object]) -> int:
        raise KeyError(len(candidates))


class NonsensePolicy:
    """Names a segment that was not offered, and no number at all."""

    def evict_which(self, candidates: Sequence[object]) -> int:
        return len(candidates)

    def recompress_which(self, candidates: Sequence[object]) -> str:
        return "the first"
