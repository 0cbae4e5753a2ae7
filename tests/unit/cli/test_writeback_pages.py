"""Which pages of a process are to be written back, and where they are found then."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.cli.writeback_pages import Found, chosen, find
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.table_view import TableView
from fuseswap.units import PageNumber, page_range
from tests.support import pages
from tests.support.tiered_devices import Tiered, dense


def view_of(worker: Tiered) -> TableView:
    return TableView(*(worker.memory.fds[name] for name in ("header", "slots", "segments")))


def some() -> list[Found]:
    return [
        Found(PageNumber(9), None, 100, 1000, is_raw=False),
        Found(PageNumber(3), None, 200, 1000, is_raw=True),
        Found(PageNumber(5), None, None, 1000, is_raw=False),
        Found(PageNumber(1), "file0", 50, 1000, is_raw=False),
    ]


@pytest.mark.parametrize(
    ("idle_s", "incompressible", "most_bytes", "expected"),
    [
        (None, False, None, [3, 5, 9]),
        (0, False, None, [3, 5, 9]),
        (100, False, None, [3, 9]),
        (101, False, None, [9]),
        (201, False, None, []),
        (None, True, None, [3]),
        (None, False, 1999, [9]),
        (None, False, 2000, [3, 9]),
        (None, False, 999, []),
        (100, False, 1000, [9]),
    ],
)
def test_what_is_chosen(
    idle_s: int | None, incompressible: bool, most_bytes: int | None, expected: list[int]
) -> None:
    found = chosen(
        some(), idle_s=idle_s, incompressible=incompressible, most_bytes=most_bytes, now_s=300.5
    )
    assert found == expected


async def test_where_pages_are_found(tiered: Tiered, nursery: trio.Nursery) -> None:
    for page in range(20):
        tiered.store(page)
    tiered.store(20, pages.filled(7))
    tiered.store(21, pages.incompressible(1))
    nursery.start_soon(tiered.writeback.run)
    tiered.writeback.ask(ReclaimRequest.parse("pages=0-9", leaves=True))
    await wait_all_tasks_blocked()
    found = find(view_of(tiered), page_range(0, 4000))
    assert [one.page for one in found] == [*range(20), 21], "no fills and no holes"
    assert [one.page for one in found if one.tier == "fake"] == list(range(10))
    assert [one.page for one in found if one.is_raw] == [21]
    assert [one.page for one in found if one.sealed_at is None] == [21], "the others were sealed"


async def test_pages_in_their_places_are_on_the_backing_file(
    placed: Tiered, nursery: trio.Nursery
) -> None:
    for page in range(20):
        placed.store(page, dense(page))
    nursery.start_soon(placed.writeback.run)
    placed.writeback.ask(ReclaimRequest.parse("pages=0-9", leaves=True))
    await wait_all_tasks_blocked()
    found = find(view_of(placed), page_range(0, 30))
    assert [one.page for one in found if one.tier == "backing_file"] == list(range(10))
    assert len(found) == 20
