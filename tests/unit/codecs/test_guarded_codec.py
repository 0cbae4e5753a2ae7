"""A codec of a plugin: whatever it does, each page comes back, or is said to be corrupt."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest
from fuseswap_bad_plugins import FAULTY_EVERY, Lying, Raising
from fuseswap_examples.deflate import Deflate

from fuseswap.codecs.call_notes import MOST_DEATHS
from fuseswap.codecs.codec import Buffer
from fuseswap.codecs.registry import parse_compressor
from fuseswap.errors import CorruptData, InvalidArgument
from fuseswap.frontswap.compressed_cache import CompressedCache
from fuseswap.plugins.health import MOST_FAULTS, MOST_STALLS
from fuseswap.store.slot_word import codec_of
from fuseswap.units import PAGE_SIZE, PageNumber
from tests.support import pages
from tests.support.memory_stores import FrontedCache, SharedMemory, fronted
from tests.support.plugged import a_codec, faults_of, ticking

PAGES = 300


class Odd(Deflate):
    """A codec whose answers a test replaces."""

    def __init__(
        self,
        compress: Callable[[bytes], object] = zlib.compress,
        open_: Callable[[bytes], object] = zlib.decompress,
    ) -> None:
        self._compress, self._open = compress, open_

    def compressor(self, level: int | None) -> Callable[[Buffer], bytes]:
        return self._compress  # type: ignore[return-value]

    def decompressor(self) -> Callable[[bytes], bytes]:
        return self._open  # type: ignore[return-value]


def leave(_: bytes) -> bytes:
    raise KeyboardInterrupt


@pytest.mark.parametrize("level", ["", ":1", ":9"])
@pytest.mark.parametrize("page", pages.CORPUS)
def test_every_page_comes_back(level: str, page: str) -> None:
    data, codec = pages.CORPUS[page], a_codec(Deflate())
    payload = parse_compressor(f"deflate{level}", [codec]).compress(memoryview(data))
    if len(payload) < PAGE_SIZE:
        assert codec.decompressor()(payload) == data
    else:
        assert payload == data
    assert faults_of(codec) == 0


@pytest.mark.parametrize(
    "codec",
    [
        Odd(lambda page: 1 // 0),
        Odd(leave),
        Odd(lambda page: b""),
        Odd(lambda page: None),
        Odd(lambda page: bytearray(zlib.compress(page))),
        Odd(lambda page: zlib.compress(page[::-1])),
        Odd(open_=lambda payload: 1 // 0),
        Odd(open_=leave),
        Odd(open_=lambda payload: zlib.decompress(payload)[:-1]),
        Odd(open_=lambda payload: bytearray(zlib.decompress(payload))),
    ],
)
def test_a_page_that_it_fails_for_is_kept_as_it_is(codec: Odd) -> None:
    guarded = a_codec(codec)
    page = pages.compressible(1)
    assert guarded.compressor(None)(page) == page
    assert faults_of(guarded) == 1


def test_it_never_has_the_buffer_of_a_request() -> None:
    given: list[bytes] = []
    codec = Odd(lambda page: given.append(page) or zlib.compress(page))  # type: ignore[func-returns-value]
    a_codec(codec).compressor(None)(memoryview(bytearray(pages.compressible(1))))
    assert type(given[0]) is bytes


def test_a_page_that_opens_otherwise_than_it_did_is_corrupt() -> None:
    answers: list[object] = []
    codec = a_codec(Odd(open_=lambda payload: answers.pop(0)))
    page, other = pages.compressible(1), pages.compressible(2)
    answers.append(page)
    payload = codec.compressor(None)(page)
    open_ = codec.decompressor()
    answers += [other, page]
    assert open_(payload) == page  # the second try
    answers += [other, page[:-1]]
    with pytest.raises(CorruptData, match=r"'deflate' \(a-package 1\.2\)"):
        open_(payload)
    assert faults_of(codec) == 3


def test_what_makes_no_context_opens_nothing() -> None:
    class Broken(Deflate):
        def decompressor(self) -> Callable[[bytes], bytes]:
            raise MemoryError

    codec = a_codec(Broken())
    with pytest.raises(CorruptData):
        codec.decompressor()(b"1234567")
    with pytest.raises(InvalidArgument, match="MemoryError"):
        codec.compressor(None)


def test_one_that_blocks_is_set_aside() -> None:
    codec = a_codec(Deflate(), clock=ticking(0.1, *[1.0] * MOST_STALLS, 0.1))
    compress = codec.compressor(None)
    page = pages.compressible(1)
    lengths = [len(compress(page)) for _ in range(MOST_STALLS + 3)]
    assert codec.health.is_set_aside
    assert [length < PAGE_SIZE for length in lengths] == [True] * (MOST_STALLS + 1) + [False] * 2
    with pytest.raises(InvalidArgument, match="was set aside"):
        codec.compressor(None)


def kind_of(cache: FrontedCache, page: int) -> str:
    found: str = cache.codecs.labels.get(codec_of(cache.slots.get(PageNumber(page))), "raw")
    return found


@pytest.mark.parametrize("bad", [Raising, Lying])
def test_in_a_cache_every_page_comes_back_and_lz4_goes_on(
    memory: SharedMemory, bad: type[Raising | Lying]
) -> None:
    codec = a_codec(bad())
    cache = fronted(memory.attach(), compressor=codec.name, codecs=[codec])
    for page in range(PAGES):
        cache.store(page, pages.compressible(page))
    for page in range(PAGES):
        assert cache.load(page) == pages.compressible(page)
    assert faults_of(codec) >= PAGES // FAULTY_EVERY
    assert codec.health.is_set_aside
    assert cache.encoder.compressor.name == "lz4"
    kept = {kind_of(cache, page) for page in range(PAGES)}
    assert kept == {codec.name, "lz4", "raw"}


def test_a_few_faults_do_not_end_it(memory: SharedMemory) -> None:
    codec = a_codec(Raising())
    cache = fronted(memory.attach(), compressor=codec.name, codecs=[codec])
    for page in range(100):
        cache.store(page, pages.compressible(page))
    assert 0 < faults_of(codec) < MOST_FAULTS
    assert cache.encoder.compressor.name == codec.name
    assert kind_of(cache, 98) == codec.name
    assert kind_of(cache, 99) == "raw"  # each 25th: two calls a page


def test_workers_that_end_inside_it_set_it_aside(memory: SharedMemory) -> None:
    for deaths in range(1, MOST_DEATHS + 1):
        state = memory.attach()
        state.header.buffer[544] = 9
        codec = a_codec(Deflate())
        cache = CompressedCache(state, fronted(memory.attach()).slots, codecs=[codec])
        assert codec.health.is_set_aside == (deaths == MOST_DEATHS)
    with pytest.raises(InvalidArgument, match="was set aside"):
        cache.encoder.set_compressor("deflate")


def test_one_that_cannot_be_registered_is_left_out(
    memory: SharedMemory, caplog: pytest.LogCaptureFixture
) -> None:
    cache = fronted(memory.attach(), codecs=[a_codec(Deflate()), a_codec(Deflate())])
    assert cache.codecs.names == ["lz4", "zstd", "deflate"]
    assert "codec 'deflate' (a-package 1.2) is left out" in caplog.text
