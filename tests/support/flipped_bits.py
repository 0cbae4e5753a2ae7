"""A store with every kind of page, a bit of which turns over; and what becomes of the pages.

`Damage.try_flip` turns bits of one region over, before a worker attaches or under one that
runs, has it load every page and go on working, and says what came of it.  Everything is put
back as it was for the next.

A kind of page is a line of `KINDS`; a layout one of `LAYOUTS`; a region a line of `_spots`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fuseswap.codecs.checksum import checksum_of
from fuseswap.codecs.recompressor import Recompressor
from fuseswap.codecs.registry import ZSTD_DICTIONARY
from fuseswap.errors import CorruptData
from fuseswap.filesystem.device import Device
from fuseswap.frontswap.raw_file import RawFile
from fuseswap.store.cleaner import Cleaner
from fuseswap.store.geometry import SEGMENT_ENTRY_BYTES, Geometry
from fuseswap.store.page_reader import ZERO_PAGE
from fuseswap.store.segment_entry import SegmentState, Stream
from fuseswap.store.slot_word import codec_of, foreign_word
from fuseswap.store.superblock import FuseSession
from fuseswap.tiers.tier_reader import TierLoad
from fuseswap.tiers.tier_table import TierTable
from fuseswap.units import PAGE_SIZE, SEGMENT_BYTES, PageNumber, SegmentId, segment_range
from tests.support import pages
from tests.support.crashes import SharedPlaces, SharedTier
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import FrontedCache, SharedMemory, fronted_of
from tests.support.recompressed_devices import DICTIONARY
from tests.support.sealed_segments import all_sealed
from tests.support.tiered_devices import dense, extent_of

GEOMETRY = Geometry(page_count=1024, segment_count=33, frame_count=16)
SESSION = FuseSession(7, 44, 1 << 40 | 5, 1 << 20, 256)
PARAMETERS = {"compressor": "zstd:1", "pool_limit_bytes": "16777216"}
EXTENTS = 8
LAYOUTS = ("memory", "tier", "in-place")
_DICTIONARY = "dictionary"  # as a compressor


@dataclass(frozen=True, slots=True)
class Kind:
    """``count`` pages of a kind, each made from a number."""

    count: int
    make: Callable[[int], bytes]
    compressor: str = "lz4"


# Two segments of pages that are all of one length lie alike: what one of them has at an
# offset is a sound object in the other as well.
KINDS = {
    "zero": Kind(20, lambda number: pages.ZERO),
    "fill_fits": Kind(20, lambda number: pages.filled(pages.FITS + number)),
    "fill_repeats": Kind(20, lambda number: pages.filled((0xDEAD0000 + number) * 0x100000001)),
    "fill_object": Kind(20, lambda number: pages.filled(pages.FITS_NOT + number)),
    "lz4": Kind(40, pages.compressible),
    "duplicate": Kind(20, pages.compressible),
    "zstd": Kind(40, pages.hexadecimal, "zstd:1"),
    "dictionary": Kind(40, pages.related, _DICTIONARY),
    "dense": Kind(290, dense),
    "raw": Kind(380, pages.incompressible),
}
_HOLES = 100  # at least; the rest of the pages
_TOUCHED = 40  # pages stored or discarded after a flip
_PIECE = 1 << 16


@dataclass(slots=True)
class Outcome:
    """What came of one flip; pages by number."""

    wrong: list[int] = field(default_factory=list)
    corrupt: set[int] = field(default_factory=set)
    crash: str = ""
    words: list[int] = field(default_factory=list)  # the 64-bit words the bits are in, with them

    @property
    def verdict(self) -> str:
        """``wrong``, ``crash``, ``detected`` or ``harmless``."""
        if self.wrong:
            return "wrong"
        return "crash" if self.crash else "detected" if self.corrupt else "harmless"


class Damage:
    """One layout over memory and a backing file of its own."""

    def __init__(self, layout: str) -> None:
        self.memory = SharedMemory(GEOMETRY)
        self._layout = layout
        self._backing: SharedTier | SharedPlaces = (
            SharedPlaces(GEOMETRY.page_count) if layout == "in-place" else SharedTier(EXTENTS)
        )
        self.expected: dict[int, bytes] = {}
        self._fill()
        self._regions = {**self.memory.regions(), "backing": self._backing.region}
        self._saved = {
            name: {start: region.map[start:end] for start, end in region.extents()}
            for name, region in self._regions.items()
        }
        self._spots = self._find_spots()

    def close(self) -> None:
        """Close all files."""
        self.memory.close()
        self._backing.close()

    # -- before --------------------------------------------------------------------------

    def _fill(self) -> None:
        cache = fronted_of(self._attach())
        state = self.memory.attach()
        state.session, state.parameters = SESSION, PARAMETERS
        numbers = list(range(GEOMETRY.page_count))
        random.Random(1).shuffle(numbers)
        for kind in KINDS.values():
            if kind.compressor != _DICTIONARY:
                cache.encoder.set_compressor(kind.compressor)
            for number in range(kind.count):
                page = numbers.pop()
                cache.store(page, kind.make(number))
                self.expected[page] = kind.make(number)
                if kind.compressor == _DICTIONARY:
                    self._pack(cache, page)
        assert cache.log.duplicate_pages >= KINDS["duplicate"].count
        assert len(numbers) >= _HOLES
        if self._layout == "tier":
            self._move_half_out(cache)
        elif self._layout == "in-place":
            self._put_half_in_place(cache)
        check_invariants(cache)

    def _pack(self, cache: FrontedCache, page: int) -> None:
        """Recompress a page, with the dictionary that suits it."""
        dictionary = cache.dictionaries.current or cache.dictionaries.add(DICTIONARY)
        old = cache.slots.get(PageNumber(page))
        objects = [(codec_of(old), cache.log.stored(old))]
        (packed,) = Recompressor(6, dictionary).shrink(objects, lambda: False)
        assert packed is not None
        assert packed.codec == ZSTD_DICTIONARY
        head = cache.log.heads[Stream.RECOMPRESSED]
        new = cache.log.append_copy(
            head, PageNumber(page), packed.payload, packed.check, packed.codec
        )
        cache.slots.words[page] = new
        cache.log.release(old)

    def _move_half_out(self, cache: FrontedCache) -> None:
        for head in cache.log.heads:
            cache.log.seal(head)
        for segment in all_sealed(cache.log.table)[::2]:
            self._move_out(cache, segment)

    def _move_out(self, cache: FrontedCache, segment: SegmentId) -> None:
        assert isinstance(cache.log.tiers, TierTable)
        (entry,) = cache.log.tiers
        to = entry.take()
        assert to is not None
        with cache.log.view(segment) as view:
            self._backing.region.buffer[to.extent * SEGMENT_BYTES :][:SEGMENT_BYTES] = view
        cache.log.relocate(segment, to)

    def _put_half_in_place(self, cache: FrontedCache) -> None:
        place, (_, backend) = self._backing, cache.frontswap.links.backends
        assert isinstance(backend, RawFile)
        for page in sorted(self.expected)[::2]:
            data = self.expected[page]
            if data[:8] * (PAGE_SIZE // 8) != data:
                place.region.buffer[page * PAGE_SIZE :][:PAGE_SIZE] = data
                old = cache.slots.get(PageNumber(page))
                cache.slots.commit(
                    PageNumber(page), foreign_word(RawFile.number, checksum_of(data, 0))
                )
                cache.release(page, old)
                backend.stored_pages += 1

    def _attach(self, *, lazy: bool = False) -> Device:
        state = self.memory.attach()
        if isinstance(self._backing, SharedPlaces):
            return Device(state, place_file=self._backing, lazy=lazy)
        return Device(state, [self._backing] if self._backing else [], lazy=lazy)

    # -- bits ----------------------------------------------------------------------------

    def _find_spots(self) -> dict[str, list[tuple[int, int]]]:
        """Bytes from and to, by region: what a flip there may hurt."""
        entries = max(self._attach().cache.log.table.segments()) + 2
        self._restore()
        allocated = {name: list(region.extents()) for name, region in self._regions.items()}
        return {
            **allocated,
            "segments": [(SEGMENT_ENTRY_BYTES, entries * SEGMENT_ENTRY_BYTES)],
            "header": [spot for copy in (0, PAGE_SIZE) for spot in _header_spots(copy)],
        }

    def draw(self, region: str, chance: random.Random) -> list[int]:
        """One bit of ``region``, as a list of bit numbers."""
        spots = self._spots[region]
        left = chance.randrange(sum(end - start for start, end in spots))
        for start, end in spots:
            if left < end - start:
                return [(start + left) * 8 + chance.randrange(8)]
            left -= end - start
        raise AssertionError("beyond all spots")

    def draw_two(self, region: str, chance: random.Random) -> list[int]:
        """Two bits of one 64-bit word of ``region``."""
        word = self.draw(region, chance)[0] // 64 * 64
        return [word + bit for bit in chance.sample(range(64), 2)]

    # -- after ---------------------------------------------------------------------------

    def try_flip(self, region: str, bits: list[int], chance: random.Random) -> Outcome:
        """Turn ``bits`` over, half the time before a worker attaches, else under one that runs."""
        outcome = Outcome()
        running = chance.random() < 0.5
        try:
            self._try(region, bits, outcome, chance, running=running)
        except Exception as exc:
            outcome.crash = f"{type(exc).__name__}: {exc} (running: {running})"
        finally:
            self._restore()
        return outcome

    def _restore(self) -> None:
        """Put back what has changed, and give back what was allocated since."""
        for name, region in self._regions.items():
            ends = {start: start + len(data) for start, data in self._saved[name].items()}
            for start, end in region.extents():
                for at in range(start, end, PAGE_SIZE):
                    if not any(first <= at < last for first, last in ends.items()):
                        region.punch(at, PAGE_SIZE)
            for start, data in self._saved[name].items():
                for at in range(0, len(data), _PIECE):
                    piece = data[at : at + _PIECE]
                    if region.map[start + at : start + at + len(piece)] != piece:
                        region.map[start + at : start + at + len(piece)] = piece

    def _try(
        self,
        region: str,
        bits: list[int],
        outcome: Outcome,
        chance: random.Random,
        *,
        running: bool,
    ) -> None:
        expected = dict(self.expected)
        device = None
        if running:
            device = self._attach()
            self._go_on(device, expected, chance, outcome)
        for bit in bits:
            self._regions[region].buffer[bit // 8] ^= 1 << bit % 8
        at = bits[0] // 64 * 8
        outcome.words.append(int.from_bytes(self._regions[region].map[at : at + 8], "little"))
        if device is None:
            device = self._attach(lazy=chance.random() < 0.5)
        self._look_at_header()
        self._look(device, expected, outcome, range(GEOMETRY.page_count))
        while device.frontswap.adopt_some():
            pass
        fresh = self._go_on(device, expected, chance, outcome)
        self._work(fronted_of(device))
        found = Outcome()
        self._look(device, expected, found, [*sorted(fresh), *range(0, GEOMETRY.page_count, 8)])
        outcome.wrong += found.wrong
        outcome.corrupt |= found.corrupt
        if spoiled := fresh & found.corrupt:
            raise AssertionError(f"pages stored after it are corrupt: {sorted(spoiled)[:3]}")
        device.frontswap.invalidate_area(PageNumber(0), GEOMETRY.page_count)
        self._start_over()

    def _look_at_header(self) -> None:
        """What the next worker finds in it is right; or no parameters."""
        state = self.memory.attach()
        found = (state.geometry, state.session, state.parameters or PARAMETERS)
        if found != (GEOMETRY, SESSION, PARAMETERS):
            raise AssertionError(f"the header says {found}")

    def _look(
        self,
        device: Device,
        expected: dict[int, bytes],
        outcome: Outcome,
        pages_to_load: Iterable[int],
    ) -> None:
        """Load pages, holes too."""
        for page in pages_to_load:
            try:
                data = self._load(device, page)
            except CorruptData:
                outcome.corrupt.add(page)
                continue
            if (data or ZERO_PAGE) != expected.get(page, ZERO_PAGE):
                outcome.wrong.append(page)

    def _load(self, device: Device, page: int) -> bytes | None:
        try:
            return device.frontswap.load(PageNumber(page))
        except TierLoad as miss:
            start = miss.location.extent * SEGMENT_BYTES
            start += miss.offset
            stored = self._backing.region.map[start : start + miss.length]
            data = miss.finish(stored)
            assert data is not None, "the page would be read again and again"
            return data

    def _go_on(
        self, device: Device, expected: dict[int, bytes], chance: random.Random, outcome: Outcome
    ) -> set[int]:
        """Store and discard some pages, those found corrupt first; returns the stored ones."""
        touched = [*sorted(outcome.corrupt)[:4]]
        touched += chance.sample(range(GEOMETRY.page_count), _TOUCHED)
        stock = list(self.expected.values())
        for number, page in enumerate(touched):
            if number % 4 == 3:
                device.frontswap.invalidate_page(PageNumber(page))
                expected.pop(page, None)
            else:
                data = chance.choice(stock)
                device.frontswap.store(PageNumber(page), data, replace=number % 4 == 2)
                expected[page] = data
        return {page for page in touched if page in expected}

    def _work(self, cache: FrontedCache) -> None:
        """What happens to segments in the background: cleaned, looked at, moved out."""
        device_cleaner = Cleaner(cache.slots, cache.log, cache.decoder)
        for segment in all_sealed(cache.log.table)[:2]:
            cache.loaded_share(segment)
            cache.owners_of(segment)
            device_cleaner.begin(segment)
            while device_cleaner.busy and device_cleaner.step():
                pass
        if self._layout != "tier":
            return
        on_tier = device_cleaner.victims.choose_on_tier(SEGMENT_BYTES)
        if on_tier:
            at = extent_of(cache.log, on_tier) * SEGMENT_BYTES
            stored = self._backing.region.map[at : at + SEGMENT_BYTES]
            device_cleaner.is_worth_another_read(cache.log.table.ref(on_tier), stored)
            device_cleaner.begin_on_tier(on_tier, stored)
            while device_cleaner.busy and device_cleaner.step():
                pass
        sealed = all_sealed(cache.log.table)
        if sealed:
            self._move_out(cache, sealed[0])

    def _start_over(self) -> None:
        """All was discarded: the next worker finds nothing, and works."""
        device = self._attach()
        check_invariants(fronted_of(device))
        assert device.cache.slots.stored_pages == 0
        device.frontswap.store(PageNumber(0), pages.compressible(0))
        assert device.frontswap.load(PageNumber(0)) == pages.compressible(0)
        assert SegmentState.SEALED not in map(device.cache.log.table.state_of, segment_range(1, 3))


def _header_spots(copy: int) -> list[tuple[int, int]]:
    """Geometry, session, progress and peak, parameters; and all the rest."""
    spots = [(0, 44), (256, 284), (512, 540), (1024, 1100), (0, PAGE_SIZE)]
    return [(copy + start, copy + end) for start, end in spots]
