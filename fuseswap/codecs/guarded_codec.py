"""A codec of a plugin, watched: whatever it does, it costs no page and gives no wrong one.

    compress   its payload is opened again and compared, always: a second call a page.  A page
               that it fails for is kept raw.  Set aside, it gets no more pages
    open       what it opens is compared with a checksum of the page, and tried a second time.
               A page it opened when it was stored and does not open now is `CorruptData`

    | check | payload of the plugin |       check: the low half of xxh3 of the page

The check before an object is of its payload, as with every codec.  So objects are moved and
verified without asking the plugin, also where it is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import xxhash

from fuseswap.codecs.codec import MAX_COMPRESSED_BYTES, Buffer, Codec
from fuseswap.errors import CorruptData, InvalidArgument, reason_of
from fuseswap.units import PAGE_SIZE

_CHECK_BYTES = 4
_MOST_BYTES = MAX_COMPRESSED_BYTES - _CHECK_BYTES

_xxh3 = xxhash.xxh3_64_intdigest


class Health(Protocol):
    """What counts the faults of a plugin (``plugins/health.py``)."""

    @property
    def name(self) -> str:
        """Of the codec."""

    @property
    def label(self) -> str:
        """The name, and the package it is of."""

    @property
    def is_set_aside(self) -> bool:
        """Whether it gets no more pages."""

    def note_raised(self, reason: str) -> None:
        """It raised ``reason``."""

    def note_wrong(self, reason: str) -> None:
        """Its answer was refused."""

    def note_time(self, seconds: float) -> None:
        """A call took so long."""

    def set_aside(self, reason: str) -> None:
        """It gets no more pages."""


class GuardedCodec:
    """A `Codec` around ``codec``, whose faults ``health`` counts."""

    def __init__(
        self, codec: Codec, health: Health, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.name = health.name
        self.releases_gil = bool(getattr(codec, "releases_gil", False))
        self.health = health
        self._codec = codec
        self._clock = clock

    def compressor(self, level: int | None) -> Callable[[Buffer], bytes]:
        """Never raises, once it is made: a page that it fails for is its own payload."""
        if self.health.is_set_aside:
            raise InvalidArgument(f"{self.health.label} was set aside; use another")
        try:
            compress, open_ = self._codec.compressor(level), self._codec.decompressor()
        except InvalidArgument:
            raise
        except BaseException as exc:
            raise InvalidArgument(f"{self.health.label} fails: {reason_of(exc)}") from None
        return partial(self._compress, compress, open_)

    def decompressor(self) -> Callable[[bytes], bytes]:
        """Opens what the compressor made; raises `CorruptData`."""
        try:
            open_ = self._codec.decompressor()
        except BaseException as exc:
            self.health.note_raised(f"it opens nothing: {reason_of(exc)}")
            return self._open_nothing
        return partial(self._open, open_)

    def _compress(
        self, compress: Callable[[Buffer], bytes], open_: Callable[[bytes], bytes], data: Buffer
    ) -> bytes:
        page = bytes(data)  # its own: a plugin may write to what it is given, or keep it
        health = self.health
        if health.is_set_aside:
            return page
        began = self._clock()
        try:
            payload = compress(page)
            if type(payload) is not bytes or not payload:
                health.note_wrong("it compressed a page to nothing, or to no bytes")
                return page
            if len(payload) > _MOST_BYTES:
                return page
            opened = open_(payload)
            if type(opened) is not bytes or opened != page:
                health.note_wrong("it did not open a page as it was")
                return page
        except BaseException as exc:
            health.note_raised(reason_of(exc))
            return page
        finally:
            health.note_time(self._clock() - began)
        return _check_of(page) + payload

    def _open(self, open_: Callable[[bytes], bytes], stored: bytes) -> bytes:
        check, payload = stored[:_CHECK_BYTES], stored[_CHECK_BYTES:]
        for _ in range(2):
            began = self._clock()
            try:
                page = open_(payload)
                if type(page) is bytes and len(page) == PAGE_SIZE and _check_of(page) == check:
                    return page
                self.health.note_wrong("it opened a page as another")
            except BaseException as exc:
                self.health.note_raised(reason_of(exc))
            finally:
                self.health.note_time(self._clock() - began)
        raise CorruptData(f"{self.health.label} does not open it any more")

    def _open_nothing(self, stored: bytes) -> bytes:
        raise CorruptData(f"{self.health.label} opens nothing")


def _check_of(page: bytes) -> bytes:
    return (_xxh3(page) & 0xFFFFFFFF).to_bytes(_CHECK_BYTES, "little")
