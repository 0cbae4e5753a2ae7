"""When what is stored is swept for duplicates: once each time the index has fallen behind."""

from __future__ import annotations

import pytest

from fuseswap.dedup import policy as dedup_module
from fuseswap.dedup.merger import Merger
from fuseswap.dedup.policy import SAMPLED_WINDOW, WINDOW, Dedup, Mode
from fuseswap.units import PageNumber
from tests.support import pages
from tests.support.memory_stores import FrontedCache, SharedMemory

SHORT = 2048


@pytest.fixture
def dedup(cache: FrontedCache, monkeypatch: pytest.MonkeyPatch) -> Dedup:
    monkeypatch.setattr(dedup_module, "WINDOW", SHORT)
    cache.dedup.set_switch("off")
    cache.dedup.set_switch("auto")
    return cache.dedup


def fill(cache: FrontedCache) -> None:
    for page in range(1000):
        cache.store(page, pages.compressible(page))


def looked_up(dedup: Dedup, count: int, hits: float) -> None:
    """So many lookups, of which a share were hits."""
    for number in range(count):
        dedup.candidate(PageNumber(number & 1023), number.to_bytes(8, "little"))
        dedup.hits += int((number + 1) * hits) - int(number * hits)


def begin_to_sample(dedup: Dedup) -> None:
    looked_up(dedup, SHORT + 1, 0)
    assert dedup.mode is Mode.SAMPLING


def is_swept(dedup: Dedup) -> bool:
    return dedup.sweep_at >= 0


def test_not_while_every_page_is_looked_up(cache: FrontedCache, dedup: Dedup) -> None:
    fill(cache)
    looked_up(dedup, 5 * SHORT, 0.5)
    assert (dedup.mode, is_swept(dedup)) == (Mode.ON, False)
    dedup.set_switch("on")
    assert not is_swept(dedup)


def test_when_samples_are_found(cache: FrontedCache, dedup: Dedup) -> None:
    fill(cache)
    begin_to_sample(dedup)
    looked_up(dedup, SAMPLED_WINDOW, 0)
    assert not is_swept(dedup)
    looked_up(dedup, 3 * SAMPLED_WINDOW, 0.5)
    assert (dedup.mode, is_swept(dedup)) == (Mode.ON, True)


def test_no_window_ends_it(cache: FrontedCache, dedup: Dedup) -> None:
    begin_to_sample(dedup)
    fill(cache)
    looked_up(dedup, 3 * SAMPLED_WINDOW, 0.5)
    looked_up(dedup, 20 * SHORT, 0)
    assert (dedup.mode, is_swept(dedup)) == (Mode.ON, True)


def test_a_window_after_it_does_and_it_comes_again_after_sampling(
    cache: FrontedCache, dedup: Dedup
) -> None:
    merger = Merger(cache.cache, cache.dedup)
    begin_to_sample(dedup)
    for _ in range(2):
        fill(cache)
        looked_up(dedup, 3 * SAMPLED_WINDOW, 0.5)
        assert is_swept(dedup)
        while merger.busy:
            merger.step()
        looked_up(dedup, SHORT - 3 * SAMPLED_WINDOW, 0)
        assert dedup.mode is Mode.ON
        looked_up(dedup, 2 * SHORT, 0.5)
        assert not is_swept(dedup), "all is known"
        looked_up(dedup, SHORT + 32, 0)
        assert (dedup.mode, is_swept(dedup)) == (Mode.SAMPLING, False)


@pytest.mark.parametrize("before", ["auto", "off"])
def test_when_it_is_switched_on(cache: FrontedCache, dedup: Dedup, before: str) -> None:
    begin_to_sample(dedup)
    fill(cache)
    dedup.set_switch(before)
    dedup.set_switch("on")
    assert (dedup.mode, dedup.sweep_at) == (Mode.ON, 0)


def test_off_ends_it_and_on_begins_anew(cache: FrontedCache, dedup: Dedup) -> None:
    begin_to_sample(dedup)
    fill(cache)
    dedup.set_switch("on")
    merger = Merger(cache.cache, cache.dedup)
    merger.step()
    assert merger.busy
    dedup.set_switch("auto")
    assert merger.busy, "what is begun goes on"
    dedup.set_switch("off")
    at = (dedup.sweep_at, merger.merged_pages)
    merger.step()
    assert (dedup.sweep_at, merger.merged_pages) == at == (-1, 0)
    assert dedup.index.allocated_bytes == 0
    dedup.set_switch("on")
    assert dedup.sweep_at == 0


def test_auto_after_off_only_when_it_pays(cache: FrontedCache, dedup: Dedup) -> None:
    dedup.set_switch("off")
    fill(cache)
    dedup.set_switch("auto")
    assert (dedup.mode, is_swept(dedup)) == (Mode.SAMPLING, False)
    looked_up(dedup, SAMPLED_WINDOW, 0.5)
    assert is_swept(dedup)


# -- the next worker -------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.ON, Mode.SAMPLING, Mode.OFF])
def test_a_worker_goes_on_as_the_last_one(memory: SharedMemory, mode: Mode) -> None:
    old = memory.attach_cache()
    old.dedup.mode = mode
    fill(old)
    dedup = memory.attach_cache().dedup
    assert dedup.mode is (Mode.ON if mode is Mode.ON else Mode.SAMPLING)
    assert not is_swept(dedup)
    looked_up(dedup, WINDOW // 4, 0.5)
    assert (dedup.mode, is_swept(dedup)) == (Mode.ON, True)


def test_one_with_on_sweeps_at_once(memory: SharedMemory) -> None:
    fill(memory.attach_cache())
    new = memory.attach_cache()
    new.dedup.set_switch("on")
    assert (new.dedup.mode, new.dedup.sweep_at) == (Mode.ON, 0)


def test_one_that_finds_nothing_stored_knows_all(memory: SharedMemory) -> None:
    memory.attach_cache()
    new = memory.attach_cache()
    fill(new)
    new.dedup.set_switch("on")
    assert not is_swept(new.dedup)
