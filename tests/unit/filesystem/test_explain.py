"""Each place a page can be in, explained, and without a trace."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from fuseswap.codecs.checksum import CHECK_BYTES
from fuseswap.codecs.recompressor import Recompressor
from fuseswap.codecs.registry import LZ4
from fuseswap.errors import Deferred
from fuseswap.filesystem import explain as explaining
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.explain import Explanation
from fuseswap.store.segment_entry import Mark, Stream
from fuseswap.store.slot_word import segment_of, with_check
from fuseswap.tiers.ownership_label import FIRST_PAGE_AT
from fuseswap.tiers.tier_reader import TierLoad
from fuseswap.units import MIB, PAGE_SIZE, PageNumber, page_range
from tests.support import pages
from tests.support.fake_tier import FakeTier
from tests.support.memory_devices import flip_bit_of_page
from tests.support.memory_stores import SharedMemory
from tests.support.tiered_devices import Tiered, extent_of


def explain(device: Device, page: int) -> Explanation:
    """What is said of ``page``; words, counters and memory are as they were."""
    before = _all_of(device)
    found = explaining.explain(device, PageNumber(page))
    assert _all_of(device) == before
    return found


def _all_of(device: Device) -> tuple[object, ...]:
    now = device.statistics()
    regions = [region.allocated_bytes() for region in device.state.regions.values()]
    words = list(device.cache.slots.clusters())
    return now, regions, words


def store(device: Device, page: int, data: bytes) -> None:
    device.swapfile.write(page * PAGE_SIZE, memoryview(data))


def test_a_hole(device: Device) -> None:
    assert explain(device, 1279) == Explanation(
        PageNumber(1279), "hole", "never stored, or freed since: it reads as zeros"
    )


@pytest.mark.parametrize(
    ("fill", "word"),
    [
        (0, "0x0000000000000000"),
        (pages.FITS, "0x0000000f12345678"),
        (pages.REPEATS_32, "0xdeadbeefdeadbeef"),
    ],
)
def test_a_same_filled_page(device: Device, fill: int, word: str) -> None:
    store(device, 3, pages.filled(fill))
    found = explain(device, 3)
    assert (found.where, found.fill, found.stored_bytes) == ("same-filled", word, 0)
    assert found.segment is None


def test_a_fill_that_fits_in_no_slot_word(device: Device) -> None:
    store(device, 3, pages.filled(pages.FITS_NOT))
    found = explain(device, 3)
    assert (found.where, found.codec, found.stored_bytes) == ("memory", "fill", 8)
    assert "does not fit in the slot word" in found.why
    assert found.checksum == "ok"


def test_a_page_stored_a_moment_ago_then_loaded_then_sealed(device: Device) -> None:
    data = pages.compressible(1)
    store(device, 5, data)
    found = explain(device, 5)
    assert (found.where, found.codec, found.checksum) == ("memory", "lz4", "ok")
    assert found.why == "hot: stored a moment ago"
    assert (found.segment_is_open, found.age_seconds, found.loaded_since_stored) == (
        True, None, False,
    )  # fmt: skip
    assert found.stored_bytes == device.cache.log.codec_bytes[4]
    assert found.pages == 1
    device.cache.log.seal(device.cache.log.heads[Stream.STORE])
    found = explain(device, 5)
    assert found.why == "compressed when it was stored"
    assert not found.segment_is_open
    device.swapfile.read(5 * PAGE_SIZE, PAGE_SIZE)
    found = explain(device, 5)
    assert (found.why, found.loaded_since_stored) == ("hot: loaded since it was stored", True)


def test_the_age_is_counted_from_the_seal(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    log = device.cache.log
    store(device, 5, pages.compressible(1))
    log.seal(log.heads[Stream.STORE])
    sealed = log.table.sealed_at(log.table.segments()[0])
    monkeypatch.setattr("fuseswap.filesystem.explain.boot_s", lambda: sealed + 77.9)
    assert explain(device, 5).age_seconds == 77


def test_an_incompressible_page_and_its_denials(device: Device) -> None:
    store(device, 5, pages.incompressible(1))
    found = explain(device, 5)
    assert (found.codec, found.stored_bytes) == ("raw", PAGE_SIZE)
    assert found.why == "incompressible: compressing it saved less than 3 %"
    store(device, 5, pages.incompressible(2))
    assert explain(device, 5).why.endswith("when last tried, one store ago")


def test_zstd_and_a_segment_that_was_tried(device: Device) -> None:
    device.cache.encoder.set_compressor("zstd:3")
    store(device, 5, pages.compressible(1))
    found = explain(device, 5)
    assert (found.codec, found.dictionary) == ("zstd", None)
    assert found.segment is not None
    device.cache.log.table.mark(found.segment, Mark.TRIED)
    assert "gains nothing" in explain(device, 5).why


def test_a_page_with_a_dictionary(device: Device) -> None:
    cache, data = device.cache, pages.compressible(1)
    store(device, 5, data)
    dictionary = cache.dictionaries.add(pages.incompressible(2) + data)
    assert dictionary is not None
    old = cache.slots.get(PageNumber(5))
    objects = [(LZ4, cache.log.stored(old))]
    (packed,) = Recompressor(6, dictionary).shrink(objects, lambda: False)
    assert packed is not None
    head = cache.log.heads[Stream.RECOMPRESSED]
    new = cache.log.append_copy(head, PageNumber(5), packed.payload, packed.check, packed.codec)
    cache.slots.words[5] = new
    cache.log.release(old)
    found = explain(device, 5)
    assert (found.codec, found.dictionary, found.dictionary_bytes) == ("zstd", 1, 2 * PAGE_SIZE)
    assert (found.why, found.checksum) == ("cold: compressed again, harder", "ok")
    cache.dictionaries.drop(dictionary)
    found = explain(device, 5)
    assert (found.codec, found.dictionary, found.checksum) == ("zstd", None, "corrupt")


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (Stream.SURVIVORS, "copied forward"),
        (Stream.EVICTED, "gathered to leave"),
        (Stream.RECOMPRESSED, "gains nothing"),
    ],
)
def test_each_stream_has_its_reason(device: Device, stream: Stream, words: str) -> None:
    store(device, 5, pages.compressible(1))
    cache, log = device.cache, device.cache.log
    old = cache.slots.get(PageNumber(5))
    new = log.append_stored(log.heads[stream], PageNumber(5), log.stored(old), 4)
    cache.slots.words[5] = new
    log.release(old)
    assert words in explain(device, 5).why


def test_a_corrupt_object(device: Device) -> None:
    store(device, 5, pages.compressible(1))
    flip_bit_of_page(device, 5)
    found = explain(device, 5)
    assert (found.where, found.checksum) == ("memory", "corrupt")


def test_a_flipped_bit_in_a_slot_word_or_a_hole(device: Device) -> None:
    store(device, 5, pages.compressible(1))
    for page in (5, 6):
        device.cache.slots.words[page] ^= 1 << 21
        found = explain(device, page)
        assert (found.where, found.checksum) == ("nowhere", "corrupt")


@pytest.mark.parametrize(
    "flipped", [1 << 63 | 1 << 62, 1 << 41 | 1 << 42, 1 << 20 | 1 << 21, 0xF << 4, 0b101]
)
def test_two_flipped_bits_are_corrupt_whatever_they_name(device: Device, flipped: int) -> None:
    store(device, 5, pages.compressible(1))
    device.cache.slots.words[5] ^= flipped
    assert explain(device, 5).checksum == "corrupt"


def test_a_fill_that_does_not_fit_is_corrupt(device: Device) -> None:
    store(device, 5, pages.filled(pages.REPEATS_32))
    word = device.cache.slots.words[5]
    device.cache.slots.words[5] = with_check(word ^ 1 << 16)  # a 32-bit word twice has 32 bits
    assert explain(device, 5).checksum == "corrupt"


def test_a_segment_table_nobody_can_read(device: Device) -> None:
    store(device, 5, pages.compressible(1))
    table = device.state.segments.buffer.cast("Q")
    segment = segment_of(device.cache.slots.get(PageNumber(5)))
    table[segment * 4] ^= 0xC0  # one bit would be put right
    found = explaining.explain(device, PageNumber(5))
    assert (found.where, found.checksum) == ("nowhere", "corrupt")


def test_pages_a_former_worker_left_are_explained_before_they_are_counted(
    memory: SharedMemory,
) -> None:
    store(Device(memory.attach()), 700, pages.compressible(1))
    after = Device(memory.attach(), lazy=True)
    assert after.cache.adopting
    assert explain(after, 700).checksum == "ok"
    assert explain(after, 0).where == "hole"
    assert after.cache.adopting


async def test_a_page_on_the_backing_file_is_not_read(tiered: Tiered, tier: FakeTier) -> None:
    page = (await tiered.move_out())[0]
    found = explain(tiered.device, page)
    assert (found.where, found.checksum) == ("tier fake", "not read")
    assert found.why == "written back; compressed when it was stored"
    assert (found.backend, found.tier) == ("cache", "fake")
    assert found.segment is not None
    assert found.file_offset is not None
    extent, at = divmod(found.file_offset - FIRST_PAGE_AT, MIB)
    assert extent == extent_of(tiered.log, found.segment)
    assert found.stored_bytes is not None
    with pytest.raises(TierLoad) as miss:
        tiered.device.frontswap.load(PageNumber(page))
    stored = bytes(tier.extents[extent][at : at + CHECK_BYTES + found.stored_bytes])
    assert miss.value.finish(stored) == tiered.expected[page]


async def test_a_page_on_a_tier_that_is_not_there(tiered: Tiered) -> None:
    page = (await tiered.move_out())[0]
    found = explain(Tiered(tiered.memory, None).device, page)
    assert (found.where, found.tier) == ("nowhere", None)
    assert found.why == "tier 0 is not there: it gives an I/O error"


async def test_a_page_in_its_own_place(placed: Tiered) -> None:
    await placed.move_out()
    page = placed.in_place()[0]
    found = explain(placed.device, page)
    assert (found.where, found.checksum) == ("own place", "not read")
    at = FIRST_PAGE_AT + page * PAGE_SIZE
    assert (found.file_offset, found.stored_bytes) == (at, PAGE_SIZE)


async def test_a_page_on_its_way_to_its_place(placed: Tiered) -> None:
    assert placed.device.place is not None
    placed.device.cache.encoder.max_compression_ratio = 50
    with pytest.raises(Deferred):
        placed.store(7, pages.incompressible(1))
    found = explain(placed.device, 7)
    assert (found.where, found.why) == ("memory", "on its way to its place on the backing file")


def test_an_in_place_word_where_there_are_no_places(device: Device) -> None:
    store(device, 0, pages.ZERO)
    device.cache.slots.words[5] = 0b11
    assert explain(device, 5).checksum == "corrupt"


def test_it_is_json_on_one_line(device: Device) -> None:
    store(device, 5, pages.compressible(1))
    found = explain(device, 5)
    assert json.loads(found.as_json()) == asdict(found)
    assert "\n" not in found.as_json()


def test_every_page_of_a_used_device_can_be_explained(
    device: Device,
) -> None:
    for page, data in enumerate(pages.CORPUS.values()):
        store(device, page, data)
    kinds = {
        explaining.explain(device, page).where for page in page_range(0, device.cache.page_count)
    }
    assert kinds == {"hole", "same-filled", "memory"}


def test_pages_that_share_an_object(device: Device) -> None:
    for page in (3, 5, 9):
        store(device, page, pages.compressible(1))
    assert [explain(device, page).pages for page in (3, 5, 9)] == [3, 3, 3]
    device.swapfile.punch(5 * PAGE_SIZE, PAGE_SIZE)
    assert explain(device, 3).pages == 2
