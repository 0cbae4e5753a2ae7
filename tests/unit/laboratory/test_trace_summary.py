"""What a trace shows of itself."""

from __future__ import annotations

from fuseswap.frontswap.trace_ring import DISCARD, LOAD, STORE
from fuseswap.laboratory.trace_format import COMPRESSED, HOLE, SAME_FILLED, Event
from fuseswap.laboratory.trace_summary import summarize

S = 1_000_000_000


def store(at: int, page: int, number: int, size: int = 700) -> Event:
    return Event(at, STORE, page, number, size, COMPRESSED, 4)


def load(at: int, page: int, tier: int = 0) -> Event:
    return Event(at, LOAD, page, tier, 700, COMPRESSED, 4)


def test_duplicates_are_of_contents_that_another_page_has_now() -> None:
    found = summarize(
        [
            store(0, 1, 77),
            store(1, 1, 77),  # again in its place
            store(2, 2, 77),  # a duplicate
            Event(3, DISCARD, 0, 5, 0, HOLE, 0),
            store(4, 3, 77),  # there is no other any more
        ]
    )
    assert (found.stores, found.duplicates) == (4, 1)
    assert (found.discards, found.discarded_pages) == (1, 5)


def test_places_distances_and_neighbours() -> None:
    events = [store(at, at, at + 100) for at in range(8)]
    events += [load(S, 0), load(S + 10, 1), load(S + 20, 2, 2), load(S + 30, 7)]
    events.append(Event(S + 40, LOAD, 50, 0, 0, HOLE, 0))
    found = summarize(events)
    assert found.places == {"memory": 3, "tier 1": 1, "hole": 1}
    assert found.ahead == 2
    assert found.distances[:4] == [1, 0, 0, 3], "0 stores after the store of page 7, 5 to 7 others"
    assert found.pages == 9


def test_sizes_and_the_working_set_over_time() -> None:
    events = [store(0, 1, 5, 1), store(S, 2, 6, 512), store(S, 2, 7, 513), store(9 * S, 3, 8, 4096)]
    events.append(Event(9 * S, STORE, 4, 0, 8, SAME_FILLED, 0))
    found = summarize(events)
    assert found.sizes == [2, 1, 0, 0, 0, 0, 0, 1]
    assert found.classes == {"compressed": 4, "same-filled": 1}
    assert found.working_set == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]


def test_nothing_is_nothing() -> None:
    assert summarize([]).working_set == []
