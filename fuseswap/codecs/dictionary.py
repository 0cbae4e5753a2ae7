"""zstd with a dictionary: what it may know of a page before it has seen it.

A payload is one byte, the number of the dictionary, and a frame as in ``zstd.py``:

    | number | frame |

So there may be 256.  The check of such an object is of the page.  It finds a wrong dictionary as
well, and a bit that flips in the memory of a decompressor.  ``store/dictionary_area.py`` keeps the
dictionaries themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import zstandard

from fuseswap.codecs.codec import Buffer
from fuseswap.codecs.zstd import context_for, opener, parameters_with_dictionary
from fuseswap.errors import CorruptData

MAX_DICTIONARIES = 256


@dataclass(frozen=True, slots=True)
class Dictionary:
    """One dictionary; ``data`` is empty where it is corrupt.

    ``number``: in the payloads of its pages, 0 to 255, used again when it has gone.  ``version``
    is not.
    """

    number: int
    version: int
    data: bytes


def compressor(level: int, dictionary: Dictionary) -> Callable[[Buffer], bytes]:
    """What turns a page into a payload with ``dictionary``; its first page takes 10 ms more."""
    compress = raw_compressor(level, dictionary.data)
    number = bytes([dictionary.number])
    return lambda page: number + compress(page)


def raw_compressor(level: int, data: bytes) -> Callable[[Buffer], bytes]:
    """The same without the number, of a dictionary that has none yet.

    The first page makes the match tables: 2 MiB, 10 ms, without the GIL.  `precompute_compress`
    would hold it.
    """
    options = parameters_with_dictionary(level, len(data))
    known = zstandard.ZstdCompressionDict(data)
    return zstandard.ZstdCompressor(compression_params=options, dict_data=known).compress


def decompressor(data: bytes) -> Callable[[bytes], bytes]:
    """What turns a frame into a page; ``data`` b"": it raises `CorruptData`."""
    if not data:
        return _without
    context = context_for(zstandard.ZstdCompressionDict(data))
    with contextlib.suppress(zstandard.ZstdError):
        context.decompress(bytes(8))  # its tables are built now: later there may be no memory
    return opener(context)


def number_of(payload: bytes) -> int:
    """The dictionary that ``payload`` names."""
    return payload[0]


class ByDictionary:
    """Payload -> page, by the number at its front; raises `CorruptData`."""

    def __init__(self) -> None:
        self._open: list[Callable[[bytes], bytes]] = [_without] * MAX_DICTIONARIES

    def learn(self, number: int, data: bytes) -> None:
        """``number`` stands for the dictionary ``data`` from here on; b"": for none."""
        self._open[number] = decompressor(data)

    def __call__(self, payload: bytes) -> bytes:
        """The page."""
        if not payload:
            raise CorruptData("an empty payload")
        return self._open[payload[0]](payload[1:])


def _without(frame: bytes) -> bytes:
    raise CorruptData("its dictionary is gone")
