"""The registry: which number of a slot word stands for which codec, and its name.

    0-3   raw: the page itself, 4096 bytes (it did not compress); the number counts the
          stores to this page since compressing it was last tried, so 0 is a fresh try
    4     lz4 (``lz4.py``)
    5     zstd (``zstd.py``)
    6     fill: 8 bytes, a same-filled word that fits in no slot word
    7     zstd with a dictionary, whose number is in the payload (``dictionary.py``)
    8     kept for a block of several pages: nothing has it
    9-15  codecs that were registered

A number is for good: pages have it.  So it is kept with the name in the header of the shared
state, before the first page gets it.  The next worker registers its codecs in any order, and
each has its old number.  A name that no codec answers to keeps its number as well.  Its pages are
`CorruptData` until a worker knows it again.  Codecs of plugins are registered too, each behind a
guard (``guarded_codec.py``).

Which codec compresses is a run-time choice; every decompressor is always there,
so pages keep the codec they were stored with.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from fuseswap.codecs.call_notes import MOST_DEATHS, NOTES_BYTES, CallNotes
from fuseswap.codecs.codec import MAX_NAME_BYTES, REGISTERED, Buffer, Codec
from fuseswap.codecs.guarded_codec import GuardedCodec
from fuseswap.codecs.lz4 import Lz4
from fuseswap.codecs.names import DEFAULT_LEVEL
from fuseswap.codecs.zstd import Zstd
from fuseswap.errors import CorruptData, InvalidArgument
from fuseswap.spelling import is_whole
from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)

RAW: Final = 0
LAST_RAW: Final = 3
LZ4: Final = 4
ZSTD: Final = 5
FILL: Final = 6
ZSTD_DICTIONARY: Final = 7
BLOCK: Final = 8
CODECS: Final = 16

_FILL_BYTES = 8

_NAME = re.compile(rf"[a-z0-9_-]{{1,{MAX_NAME_BYTES}}}", re.ASCII)
# Labels of what is there without having been registered; lz4 and zstd are codecs like others.
_KINDS = {RAW: "raw", FILL: "fill", ZSTD_DICTIONARY: "zstd_dictionary"}
_TAKEN_NAMES = frozenset({"none", *_KINDS.values()})


@dataclass(frozen=True, slots=True)
class Compressor:
    """What new pages are compressed with: a codec at one level.

    ``compress`` takes a bytes-like page of 4096 bytes and returns its payload, possibly more than
    4096; the caller decides what is worth keeping.
    """

    name: str
    codec: int
    compress: Callable[[Buffer], bytes]
    guard: GuardedCodec | None = None

    @property
    def is_set_aside(self) -> bool:
        """Whether it is a plugin's, and does nothing any more."""
        return self.guard is not None and self.guard.health.is_set_aside


class CodecNames(Protocol):
    """Where names are kept for the next worker."""

    @property
    def codec_names(self) -> Mapping[int, str]:
        """By number; "" for one that is damaged."""
        ...

    def keep_codec_name(self, number: int, name: str) -> None:
        """``number`` is for the codec ``name`` from here on."""
        ...

    @property
    def call_notes(self) -> CallNotes:
        """Where codecs of plugins are noted while they work."""
        ...


def _forget(number: int, name: str) -> None:
    """Of a registry that outlives nothing."""


class CodecRegistry:
    """The codecs there are; lz4 and zstd always."""

    def __init__(
        self,
        names: Mapping[int, str] | None = None,
        keep: Callable[[int, str], None] = _forget,
        notes: CallNotes | None = None,
    ) -> None:
        """``names``: what a former worker kept, by number; "" where it is damaged.

        ``keep`` has the name of a number kept for the next worker; ``notes`` tell it which
        plugin was at work.
        """
        self._names = {LZ4: Lz4.name, ZSTD: Zstd.name, **(names or {})}
        self._codecs: dict[int, Codec] = {LZ4: Lz4(), ZSTD: Zstd()}
        self._keep = keep
        self._notes = notes or CallNotes(bytearray(NOTES_BYTES))

    @classmethod
    def of(cls, state: CodecNames, codecs: Iterable[Codec]) -> CodecRegistry:
        """One with all of ``codecs``, and numbers as ``state`` has them; logs which are missing.

        One of a plugin that can't be registered is logged and left out: others have pages.
        """
        registry = cls(state.codec_names, state.keep_codec_name, state.call_notes)
        for codec in codecs:
            try:
                registry.register(codec)
            except InvalidArgument as exc:
                if not isinstance(codec, GuardedCodec):
                    raise
                log.error("%s is left out: %s", codec.health.label, exc)
        for number, name in registry.missing.items():
            log.error("codec '%s' (%d) is not registered: its pages give EIO", name, number)
        registry.note_deaths(state.call_notes)
        return registry

    def note_deaths(self, notes: CallNotes) -> None:
        """Set aside the codecs of plugins in which workers ended, one after the other."""
        if name := self._names.get(notes.read_death()):
            log.error("the worker before this one ended inside codec '%s'", name)
        for number, guarded in self._guarded():
            if notes.deaths(number) >= MOST_DEATHS:
                guarded.health.set_aside(f"{notes.deaths(number)} workers ended inside it")

    def _guarded(self) -> Iterator[tuple[int, GuardedCodec]]:
        for number, codec in self._codecs.items():
            if isinstance(codec, GuardedCodec):
                yield number, codec

    def register(self, codec: Codec, number: int | None = None) -> int:
        """Have ``codec``, with its old number, ``number``, or the first free one; returns it.

        Before the cache is made, which looks once.  Raises `InvalidArgument`.
        """
        name = codec.name
        if not _NAME.fullmatch(name) or name in _TAKEN_NAMES:
            raise InvalidArgument(f"'{name}' is no name for a codec: use a-z, 0-9, - and _")
        if name in self.names:
            raise InvalidArgument(f"there is a codec '{name}' already")
        if number == BLOCK:
            raise InvalidArgument(f"codec {BLOCK} is kept for blocks of several pages")
        old = next((at for at, its in self._names.items() if its == name), None)
        if old is not None:
            if number not in (None, old):
                raise InvalidArgument(f"codec '{name}' has number {old} for good")
            self._codecs[old] = codec
            return old
        free = [at for at in REGISTERED if at not in self._names]
        if number is None and not free:
            taken = ", ".join(self._names[at] or "(damaged)" for at in REGISTERED)
            raise InvalidArgument(f"no number is left for codec '{name}': there are {taken}")
        number = free[0] if number is None else number
        if number not in free:
            raise InvalidArgument(f"number {number} is not free for codec '{name}'")
        self._keep(number, name)  # before any page has it
        self._names[number] = name
        self._codecs[number] = codec
        return number

    @property
    def names(self) -> list[str]:
        """Of the codecs that are registered, by number."""
        return [self._codecs[number].name for number in sorted(self._codecs)]

    @property
    def missing(self) -> dict[int, str]:
        """Numbers that pages may have, and names, that no codec answers to."""
        return {at: name for at, name in self._names.items() if at not in self._codecs}

    @property
    def labels(self) -> dict[int, str]:
        """What each number that pages may have is called; the raw ones are one."""
        named = {at: name or f"damaged_{at}" for at, name in self._names.items()}
        return dict(sorted({**_KINDS, **named}.items()))

    def compressor(self, text: str) -> Compressor:
        """``NAME`` or ``NAME:LEVEL``, with a context of its own; raises `InvalidArgument`."""
        name, colon, digits = text.strip().partition(":")
        for number, codec in self._codecs.items():
            if codec.name == name and (is_whole(digits) if colon else True):
                level = int(digits) if colon else DEFAULT_LEVEL if number == ZSTD else None
                try:
                    compress = codec.compressor(level)
                except InvalidArgument as exc:
                    raise self.no_compressor(text, f": {exc}") from exc
                full = name if level is None else f"{name}:{level}"
                if isinstance(codec, GuardedCodec):
                    compress = self._notes.watched(number, compress)
                    return Compressor(full, number, compress, codec)
                if number in REGISTERED:  # not ours either: an object has a byte at least
                    compress = partial(_never_empty, compress)
                return Compressor(full, number, compress)
        raise self.no_compressor(text, "")

    def no_compressor(self, text: str, reason: str, more: Iterable[str] = ()) -> InvalidArgument:
        """The error that names the codecs there are; ``more``: those of plugins."""
        *others, last = [*self.names, *sorted(more)]
        known = f"{', '.join(others)} or {last}"
        return InvalidArgument(f"'{text}' is not a compressor{reason}; use {known}, or NAME:LEVEL")

    def decompressors(self) -> list[Callable[[bytes], bytes]]:
        """By number, with contexts of their own: payload -> page, or an exception."""
        found: list[Callable[[bytes], bytes]] = [_unknown] * CODECS
        found[RAW : LAST_RAW + 1] = [_raw] * (LAST_RAW + 1)
        found[FILL] = _fill
        for number, codec in self._codecs.items():
            found[number] = codec.decompressor()
        for number, _ in self._guarded():
            found[number] = self._notes.watched(number, found[number])
        return found


def parse_compressor(text: str, codecs: Iterable[Codec] = ()) -> Compressor:
    """``lz4``, ``zstd`` or ``zstd:LEVEL`` (1 to 19), or one of ``codecs``.

    Raises `InvalidArgument`.
    """
    registry = CodecRegistry()
    for codec in codecs:
        registry.register(codec)
    return registry.compressor(text)


def _never_empty(compress: Callable[[Buffer], bytes], page: Buffer) -> bytes:
    """As ``compress``; the page where that returns nothing, which is kept raw then."""
    return compress(page) or bytes(page)


def _raw(payload: bytes) -> bytes:
    return payload


def _fill(payload: bytes) -> bytes:
    if len(payload) != _FILL_BYTES:
        raise CorruptData(f"a fill of {len(payload)} bytes")
    return payload * (PAGE_SIZE // _FILL_BYTES)


def _unknown(payload: bytes) -> bytes:
    raise CorruptData("no such codec")
