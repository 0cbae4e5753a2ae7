"""The registry: numbers for good, names, and what happens when the choice changes."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import pytest

from fuseswap.codecs.checksum import CHECK_BYTES, checksum_of
from fuseswap.codecs.codec import MAX_NAME_BYTES, REGISTERED, Buffer
from fuseswap.codecs.registry import (
    BLOCK,
    CODECS,
    FILL,
    LZ4,
    RAW,
    ZSTD,
    CodecRegistry,
    parse_compressor,
)
from fuseswap.errors import CorruptData, InvalidArgument
from fuseswap.frontswap.cache_statistics import by_codec
from fuseswap.units import PAGE_SIZE, PageNumber, page_range
from tests.support import pages
from tests.support.foreign_codec import Deflate
from tests.support.log_invariants import StoredObject, check_invariants
from tests.support.memory_stores import FrontedCache, SharedMemory, fronted

COMPRESSORS = ("lz4", "zstd", "zstd:1", "zstd:3", "zstd:19")


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("page", pages.CORPUS)
def test_every_page_comes_back(name: str, page: str) -> None:
    compressor = parse_compressor(name)
    open_ = CodecRegistry().decompressors()[compressor.codec]
    for form in (pages.CORPUS[page], memoryview(pages.CORPUS[page])):
        assert open_(compressor.compress(form)) == pages.CORPUS[page]


@pytest.mark.parametrize("name", COMPRESSORS)
def test_compressible_pages_get_smaller(name: str) -> None:
    assert len(parse_compressor(name).compress(pages.CORPUS["compressible"])) < 2048


def test_raw_and_fill_need_no_compressor() -> None:
    page = pages.CORPUS["incompressible"]
    opened = CodecRegistry().decompressors()
    assert opened[RAW](page) == page
    assert opened[FILL](b"12345678") == b"12345678" * 512


@pytest.mark.parametrize("length", [0, 7, 9, PAGE_SIZE])
def test_a_fill_of_another_length_is_corrupt(length: int) -> None:
    with pytest.raises(CorruptData):
        CodecRegistry().decompressors()[FILL](bytes(length))


@pytest.mark.parametrize(
    ("text", "name"),
    [("lz4", "lz4"), (" zstd\n", "zstd:1"), ("zstd:07", "zstd:7"), ("zstd:19", "zstd:19")],
)
def test_names_are_told_in_full(text: str, name: str) -> None:
    assert parse_compressor(text).name == name


@pytest.mark.parametrize(
    "text",
    ["", "lzo", "lz4:1", "LZ4", "zstd:", "zstd:0", "zstd:20", "zstd:-1", "zstd:1:2", "zstd:x"],
)
def test_a_bad_name_is_an_error_that_says_what_to_use(text: str) -> None:
    with pytest.raises(InvalidArgument, match="use lz4 or zstd, or NAME:LEVEL"):
        parse_compressor(text)


def test_an_error_lists_what_is_registered() -> None:
    registry = CodecRegistry()
    registry.register(Deflate())
    with pytest.raises(InvalidArgument, match="use lz4, zstd or deflate, or NAME:LEVEL"):
        registry.compressor("lzo")
    with pytest.raises(InvalidArgument, match=r"levels 0 to 9; use lz4, zstd or deflate"):
        registry.compressor("deflate:10")


@pytest.mark.parametrize("codec", range(BLOCK, CODECS))
def test_an_unknown_codec_is_corrupt_data(codec: int) -> None:
    with pytest.raises(CorruptData):
        CodecRegistry().decompressors()[codec](b"12345678")


@pytest.mark.parametrize("codec", [LZ4, ZSTD])
def test_foreign_bytes_are_corrupt_data(codec: int) -> None:
    open_ = CodecRegistry().decompressors()[codec]
    for seed in range(50):
        with pytest.raises(CorruptData):
            open_(pages.incompressible(seed)[:200])


# -- registered codecs -------------------------------------------------------------------


def test_a_new_codec_gets_the_first_free_number() -> None:
    kept: dict[int, str] = {}
    registry = CodecRegistry({10: "old"}, kept.__setitem__)
    numbers = [registry.register(Deflate(name)) for name in ("a", "b")]
    assert numbers == [9, 11]
    assert kept == {9: "a", 11: "b"}
    assert registry.names == ["lz4", "zstd", "a", "b"]
    assert registry.missing == {10: "old"}


def test_names_keep_their_numbers_in_any_order_and_with_others_beside_them() -> None:
    names = [f"codec-{number}" for number in REGISTERED]
    kept: dict[int, str] = {}
    first = CodecRegistry({}, kept.__setitem__)
    for name in names[:4]:
        first.register(Deflate(name))
    before = dict(kept)
    chance = random.Random(5)
    for _ in range(20):
        registry = CodecRegistry(kept, kept.__setitem__)
        chance.shuffle(names)
        found = {registry.register(Deflate(name)): name for name in names}
        assert found == kept
        assert before.items() <= found.items()


def test_what_is_not_registered_keeps_its_number_and_gives_corrupt_data() -> None:
    registry = CodecRegistry({9: "gone", 10: ""})
    assert registry.register(Deflate()) == 11
    assert registry.missing == {9: "gone", 10: ""}
    for number in registry.missing:
        with pytest.raises(CorruptData):
            registry.decompressors()[number](b"12345678")
    with pytest.raises(InvalidArgument, match="'gone' is not a compressor"):
        registry.compressor("gone")


def test_a_full_table_refuses_another_and_says_what_is_there() -> None:
    kept: dict[int, str] = {}
    registry = CodecRegistry({15: ""}, kept.__setitem__)
    for number in REGISTERED[:-1]:
        registry.register(Deflate(f"codec-{number}"))
    before = dict(kept)
    with pytest.raises(InvalidArgument, match=r"no number is left for .*codec-9.*\(damaged\)"):
        registry.register(Deflate())
    assert kept == before
    assert "deflate" not in registry.names


@pytest.mark.parametrize("number", [*range(REGISTERED.start), REGISTERED.stop, -1])
def test_numbers_that_have_a_meaning_are_refused(number: int) -> None:
    registry = CodecRegistry({}, lambda number, name: pytest.fail("it was kept"))
    message = "kept for blocks" if number == BLOCK else "is not free"
    with pytest.raises(InvalidArgument, match=message):
        registry.register(Deflate(), number)
    assert registry.names == ["lz4", "zstd"]


def test_another_number_than_the_old_one_is_refused() -> None:
    registry = CodecRegistry({9: "deflate"})
    with pytest.raises(InvalidArgument, match="number 9 for good"):
        registry.register(Deflate(), 10)
    assert registry.register(Deflate(), 9) == 9


@pytest.mark.parametrize(
    "name",
    ["", "none", "raw", "fill", "zstd_dictionary", "a:1", "A", "a b", "a/b", "ä", "x" * 29, "a\n"],
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="is no name for a codec"):
        CodecRegistry().register(Deflate(name))


@pytest.mark.parametrize("name", ["lz4", "zstd", "deflate"])
def test_a_name_is_there_once(name: str) -> None:
    registry = CodecRegistry()
    registry.register(Deflate())
    with pytest.raises(InvalidArgument, match="already"):
        registry.register(Deflate(name))


# -- in a cache --------------------------------------------------------------------------


def numbers(cache: FrontedCache, count: int) -> list[int]:
    return [StoredObject.of(page, cache.slots.get(page)).codec for page in page_range(0, count)]


def filled(memory: SharedMemory, *codecs: Deflate, compressor: str) -> FrontedCache:
    cache = fronted(memory.attach(), compressor=compressor, codecs=codecs)
    for page in range(50):
        cache.store(page, pages.hexadecimal(page))
    return cache


def test_a_registered_codec_compresses_and_survives_recovery(memory: SharedMemory) -> None:
    other, deflate = Deflate("other"), Deflate()
    cache = filled(memory, other, deflate, compressor="deflate:9")
    assert cache.encoder.compressor.name == "deflate:9"
    assert numbers(cache, 50) == [10] * 50
    counted = by_codec(cache.codecs.labels, cache.log.codec_pages, cache.log.codec_bytes)
    assert [(one.codec, one.codec_pages) for one in counted if one.codec_pages] == [("deflate", 50)]
    assert sum(one.codec_bytes for one in counted) == cache.statistics().compr_data_size
    for codecs in ((deflate, other), (deflate,), (Deflate("third"), deflate, other)):
        cache = fronted(memory.attach(), codecs=codecs)
        assert [cache.load(page) for page in range(50)] == [pages.hexadecimal(p) for p in range(50)]
        assert cache.log.codec_pages[10] == 50
        check_invariants(cache)


def test_a_codec_that_returns_nothing_costs_no_page(
    memory: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Deflate()
    monkeypatch.setattr(codec, "compressor", lambda level: lambda page: b"")
    cache = fronted(memory.attach(), codecs=[codec])
    cache.encoder.set_compressor("deflate")
    cache.store(0, pages.CORPUS["compressible"])
    assert cache.load(0) == pages.CORPUS["compressible"]
    assert cache.statistics().raw_pages == 1
    check_invariants(cache)


def test_pages_of_a_codec_that_is_missing_are_errors_until_it_is_back(
    memory: SharedMemory, caplog: pytest.LogCaptureFixture
) -> None:
    filled(memory, Deflate(), compressor="deflate")
    cache = fronted(memory.attach(), compressor="new", codecs=[Deflate("new")])
    assert "codec 'deflate' (9) is not registered: its pages give EIO" in caplog.text
    for page in range(50):
        with pytest.raises(CorruptData, match="no such codec"):
            cache.load(page)
    cache.store(0, pages.hexadecimal(100))
    assert numbers(cache, 2) == [10, 9]
    assert cache.load(0) == pages.hexadecimal(100)
    cache = fronted(memory.attach(), codecs=[Deflate(), Deflate("new")])
    assert cache.load(0) == pages.hexadecimal(100)
    assert cache.load(1) == pages.hexadecimal(1)
    check_invariants(cache)


def test_its_payloads_are_checked_like_others(memory: SharedMemory) -> None:
    cache = filled(memory, Deflate(), compressor="deflate")
    found = StoredObject.of(3, cache.slots.get(PageNumber(3)))
    at = cache.log.table.bases[found.segment] + found.offset + CHECK_BYTES
    memory.regions()["arena"].buffer[at + 50] ^= 1
    with pytest.raises(CorruptData, match="checksum mismatch"):
        cache.load(3)


@pytest.mark.parametrize("answer", [b"", bytes(4095), bytes(4097), RuntimeError("no"), None])
def test_whatever_a_codec_does_a_load_gives_the_page_or_corrupt_data(
    memory: SharedMemory, answer: object
) -> None:
    class Broken(Deflate):
        def _open(self, payload: bytes) -> bytes:
            if isinstance(answer, Exception):
                raise answer
            assert answer is None or isinstance(answer, bytes)
            return answer  # type: ignore[return-value]

    cache = filled(memory, Broken(), compressor="deflate")
    with pytest.raises(CorruptData):
        cache.load(0)
    assert cache.decoder.is_sound(cache.log.stored(cache.slots.get(PageNumber(0))), 9)


def test_all_that_is_registered_is_made_to_work_before_it_serves(
    memory: SharedMemory, caplog: pytest.LogCaptureFixture
) -> None:
    page = pages.hexadecimal(1)
    opened: list[int] = []

    class Counted(Deflate):
        def decompressor(self) -> Callable[[bytes], bytes]:
            def open_(payload: bytes) -> bytes:
                opened.append(checksum_of(payload, RAW))
                return Deflate._open(self, payload)

            return open_

    class Failing(Deflate):
        def compressor(self, level: int | None) -> Callable[[Buffer], bytes]:
            raise OSError("no memory")

    cache = fronted(memory.attach(), codecs=[Counted(), Failing("failing")])
    cache.encoder.warm_up(page, cache.decoder)
    assert opened == [checksum_of(zlib.compress(page, 6), RAW)]
    assert "codec 'failing' does not work: no memory" in caplog.text


def test_stored_pages_keep_their_codec(cache: FrontedCache) -> None:
    page = pages.CORPUS["compressible"]
    cache.dedup.set_switch("off")
    cache.store(0, page)
    for number, name in enumerate(("zstd:3", "zstd:12", "lz4"), 1):
        cache.encoder.set_compressor(name)
        cache.store(number, page)
    assert numbers(cache, 4) == [LZ4, ZSTD, ZSTD, LZ4]
    assert [cache.load(n) for n in range(4)] == [page] * 4


def test_a_bad_compressor_changes_nothing(cache: FrontedCache) -> None:
    cache.encoder.set_compressor("zstd:3")
    with pytest.raises(InvalidArgument):
        cache.encoder.set_compressor("zstd:99")
    cache.store(0, pages.CORPUS["compressible"])
    assert cache.encoder.compressor.name == "zstd:3"
    assert StoredObject.of(0, cache.slots.get(PageNumber(0))).codec == ZSTD


def test_the_longest_name_fits_in_the_header(memory: SharedMemory) -> None:
    state = memory.attach()
    names = {number: f"{number}".rjust(MAX_NAME_BYTES, "x") for number in REGISTERED}
    for number, name in names.items():
        state.keep_codec_name(number, name)
    assert memory.attach().codec_names == names
