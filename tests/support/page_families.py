"""Pages of several programs, and dictionaries that suit the pages of one and no others."""

from __future__ import annotations

import functools
import random

from fuseswap.codecs.checksum import CHECK_BYTES
from fuseswap.codecs.dictionary import Dictionary, number_of
from fuseswap.codecs.registry import ZSTD_DICTIONARY
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support.log_invariants import StoredObject
from tests.support.recompressed_devices import recompress
from tests.support.tiered_devices import Tiered


@functools.cache
def phrases(family: int, count: int = 100) -> list[bytes]:
    """What the pages of a ``family`` consist of."""
    chance = random.Random(family + 1)
    return [chance.randbytes(32) for _ in range(count)]


@functools.lru_cache(4096)
def page_of(family: int, seed: int) -> bytes:
    """Half a page of its phrases."""
    chance = random.Random(family << 32 | seed)
    return b"".join(chance.choices(phrases(family), k=64)) + bytes(PAGE_SIZE // 2)


def dictionary_for(*families: int, count: int = 100) -> bytes:
    """One that has the first ``count`` phrases of each of ``families``."""
    return b"".join(b"".join(phrases(family)[:count]) for family in families)


def store_family(worker: Tiered, family: int, first: int, count: int) -> range:
    """So many pages of a family from page ``first`` on."""
    for page in range(first, first + count):
        worker.store(page, page_of(family, page))
    return range(first, first + count)


async def compress_with(worker: Tiered, data: bytes, family: int, pages: range) -> Dictionary:
    """Store ``pages`` of ``family``, and have them compressed with a new dictionary ``data``."""
    added = worker.cache.dictionaries.add(data)
    assert added is not None
    store_family(worker, family, pages.start, len(pages))
    await recompress(worker.device.recompression)
    assert {dictionary_of(worker, page) for page in pages} == {added.number}
    return added


async def take_all_places(worker: Tiered, pages: int = 1) -> list[Dictionary]:
    """Eight dictionaries, each needed by a few ``pages``: the first from page 0 on, and so on."""
    return [
        await compress_with(worker, dictionary_for(n), n, range(n * pages, (n + 1) * pages))
        for n in range(8)
    ]


def codec_of(worker: Tiered, page: int) -> int:
    """The codec of a page that is an object."""
    return StoredObject.of(page, worker.cache.slots.get(PageNumber(page))).codec


def dictionary_of(worker: Tiered, page: int) -> int | None:
    """The number of the dictionary that a page in memory needs."""
    word = worker.cache.slots.get(PageNumber(page))
    needs = codec_of(worker, page) == ZSTD_DICTIONARY
    return number_of(worker.log.stored(word)[CHECK_BYTES:]) if needs else None
