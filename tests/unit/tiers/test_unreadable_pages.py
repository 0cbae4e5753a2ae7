"""Names of pages in the log: all of them, in few lines, and nothing that grows."""

from __future__ import annotations

import re

import pytest
import trio
from trio.testing import MockClock

from fuseswap.tiers.unreadable_pages import UnreadablePages, runs_of
from fuseswap.units import PageNumber
from tests.support.leftovers import containers, too_long


@pytest.mark.parametrize(
    ("pages", "text"),
    [
        ([5], "page 5"),
        ([6, 5], "pages 5-6"),
        ([1, 3, 2, 9, 0], "pages 0-3, 9"),
        ([1, 3, 5], "pages 1, 3, 5"),
    ],
)
def test_as_people_write_it(pages: list[int], text: str) -> None:
    assert runs_of([PageNumber(page) for page in pages]) == text


async def test_ten_thousand_are_all_named(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    pages = UnreadablePages()
    for page in range(0, 30_000, 3):
        pages.add(PageNumber(page), "no answer")
    assert not too_long(containers(pages), {"UnreadablePages._named": 4096}, 256)
    await trio.sleep(2)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 40
    found = {int(n) for line in lines for n in re.findall(r"\d+", line)}
    assert found == set(range(0, 30_000, 3))
