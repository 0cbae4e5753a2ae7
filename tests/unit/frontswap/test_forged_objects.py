"""Objects that were made on purpose and came back from a tier: no page of another length.

The shortest way of a load opens lz4 by itself (``page_reader.py``).
"""

from __future__ import annotations

import logging

import lz4.block
import pytest

from fuseswap.codecs.checksum import checksum_of
from fuseswap.codecs.registry import LZ4
from fuseswap.errors import CorruptData
from fuseswap.store.segment_entry import Stream
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.memory_stores import SharedMemory

FORGED = {
    "short": lz4.block.compress(bytes(PAGE_SIZE - 1), store_size=False),
    "one": lz4.block.compress(b"1", store_size=False),
    "long": lz4.block.compress(bytes(PAGE_SIZE + 1), store_size=False),
    "huge": lz4.block.compress(bytes(900_000), store_size=False),
    "noise": pages.incompressible(1)[:700],
}


@pytest.mark.parametrize("name", FORGED)
def test_what_comes_out_is_a_page_or_an_error(memory: SharedMemory, name: str) -> None:
    logging.disable()
    try:
        cache = memory.attach_cache()
        payload = FORGED[name]
        cache.store(0, pages.compressible(0))
        head = cache.log.heads[Stream.STORE]
        page = PageNumber(1)
        word = cache.log.append(head, page, payload, checksum_of(payload, LZ4), LZ4)
        cache.slots.commit(page, word)
        with pytest.raises(CorruptData):
            cache.load(1)
        assert cache.reader.counters.checksum_errors == 1
        assert cache.load(0) == pages.compressible(0)
    finally:
        logging.disable(logging.NOTSET)
