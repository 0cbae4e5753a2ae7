"""What may happen to a page while something else happens to its segment."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuseswap.units import PAGE_SIZE
from tests.support.tiered_devices import Tiered, dense


def overwrite(tiered: Tiered, page: int) -> None:
    tiered.store(page, b"x" * 100 + dense(page)[100:])


def overwrite_with_a_fill(tiered: Tiered, page: int) -> None:
    tiered.store(page, bytes(PAGE_SIZE))


def overwrite_a_part(tiered: Tiered, page: int) -> None:
    tiered.device.swapfile.write(page * PAGE_SIZE + 5, memoryview(b"part"))
    old = tiered.expected[page]
    tiered.expected[page] = old[:5] + b"part" + old[9:]


def discard(tiered: Tiered, page: int) -> None:
    tiered.discard(page)


def load(tiered: Tiered, page: int) -> None:
    assert tiered.cache.load(page) == tiered.expected[page]


def store_twice(tiered: Tiered, page: int) -> None:
    for seed in (5000, 6000):
        tiered.store(page, dense(page + seed))


def discard_and_store(tiered: Tiered, page: int) -> None:
    tiered.discard(page)
    tiered.store(page, dense(page + 7000))


ACTIONS = [
    overwrite,
    overwrite_with_a_fill,
    overwrite_a_part,
    discard,
    load,
    store_twice,
    discard_and_store,
]
Action = Callable[[Tiered, int], None]
each_action = pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
# Those that need no bytes of the page: on a tier, the others wait.
each_blind_action = pytest.mark.parametrize(
    "action",
    [action for action in ACTIONS if action not in (load, overwrite_a_part)],
    ids=lambda action: action.__name__,
)
