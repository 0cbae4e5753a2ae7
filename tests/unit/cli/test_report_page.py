"""The page of `report`: whole, self-contained, and of every device that there may be."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fuseswap.cli.recording import Moment
from fuseswap.cli.report_facts import Facts, Part
from fuseswap.cli.report_page import page
from fuseswap.cli.report_style import STYLE
from fuseswap.cli.swap_survey import State, survey
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.metrics_text import parse_metrics, times_in
from fuseswap.filesystem.openmetrics import render_metrics
from fuseswap.store.table_view import TableView
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.html_pages import read_page, words_of
from tests.support.memory_stores import SMALL, SharedMemory

pytestmark = pytest.mark.slow

HOSTILE = "</svg><script>alert(1)</script>\"'&\x1b[2J\udc9b"
SHOWN = "</svg><script>alert(1)</script>\"'&\\x1b[2J\\x9b"


def status_of(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "status": "running",
        "reason": None,
        "size_bytes": SMALL.page_count * PAGE_SIZE,
        "swap_priority": 100,
        "params": {"compressor": "lz4"},
        "warnings": [],
        "log": [],
        "stats": {},
        "tiers": [],
        **changed,
    }


def tier_of(name: str, **changed: Any) -> dict[str, Any]:
    numbers = {"used_bytes": 3 << 20, "size_bytes": 9 << 20, "errors": 0, "pages": 700}
    return {"name": name, "state": "active", **numbers, **changed}


def facts_of(memory: SharedMemory, device: Device, name: str = "swap0", **changed: Any) -> Facts:
    text = render_metrics(device)
    view = TableView(*(memory.fds[one] for one in ("header", "slots", "segments")))
    changed.setdefault("stats", parse_metrics(text))
    part = Part(name, survey(view, SMALL.page_count))
    return Facts(name, status_of(name, **changed), [part], times_in(text))


def write(device: Device, page: int, data: bytes) -> None:
    device.swapfile.write(page * PAGE_SIZE, memoryview(data))


@pytest.fixture
def used(memory: SharedMemory) -> Device:
    device = Device(memory.attach())
    for number in range(400):
        write(device, number, pages.compressible(number % 90))
    for number in range(600, 640):
        write(device, number, pages.incompressible(number))
        write(device, number + 100, pages.filled(7))
    device.latency.add_load(30_000)
    device.latency.add_store(90_000)
    device.latency.waited.add(5 * 10**9)
    return device


def moments(*names: str) -> list[Moment]:
    numbers = {"memory_bytes": 5e6, "stored_bytes": 2e7, "loads_per_s": 30.0, "cpu_percent": 7.0}
    return [
        Moment(1.8e9 + 2 * at, {"pressure_percent": 0.5}, dict.fromkeys(names, numbers))
        for at in range(1800)
    ]


def test_a_device_in_use_has_every_picture(memory: SharedMemory, used: Device) -> None:
    facts = facts_of(memory, used, tiers=[tier_of("fast")])
    text = page([facts], moments("swap0"), "host")
    found = read_page(text)
    headings = [
        "From pages to memory", "What takes memory now", "By codec", "Tiers",
        "Map of the swapfile", "Age", "Sizes of objects",
        "Loads from memory", "Stores", "Stores that waited",
        "Memory over the hour", "Pages a second", "Processor and memory pressure",
    ]  # fmt: skip
    shown = re.findall(r"<h4>(.*?)</h4>", text)
    assert shown == headings
    assert found.tags.count("figcaption") == found.tags.count("figure") == len(headings)
    assert found.tags.count("table") == len(headings), "for who sees no picture"
    said = words_of(text)
    assert text.isascii(), "any locale can write it"
    assert "\N{MINUS SIGN} compression" in said
    assert "running, 5M, lz4, swap, priority 100" in said
    assert "behind the" not in said.replace("behind the 4M shown", ""), "the map ends at 4 MiB"


def test_nothing_in_it_has_a_colour_of_its_own(memory: SharedMemory, used: Device) -> None:
    """They are in the style alone, which has each of them twice."""
    text = page([facts_of(memory, used)], None, "host")
    body = text.partition("</style>")[2]
    assert not re.search(r"(?<!&)#[0-9a-f]{3,8}\b(?=[\"';])", body.replace('"#', "'"))
    light, _, dark = STYLE.partition("@media (prefers-color-scheme: dark)")
    names = re.findall(r"(--\w+): #", light)
    assert names
    assert re.findall(r"(--\w+): #", dark) == names


def test_every_class_has_a_style(memory: SharedMemory, used: Device) -> None:
    text = page([facts_of(memory, used, tiers=[tier_of("fast")])], moments("swap0"), "host")
    classes = {one for names in re.findall(r'class="([\w ]+)"', text) for one in names.split()}
    assert {"solid", "hatched", "dotted", "frame", "compressed", "raw", "same"} <= classes
    unstyled = {"text"}
    assert {one for one in classes - unstyled if f".{one}" not in STYLE} == set()


def test_an_empty_device(memory: SharedMemory, device: Device) -> None:
    said = words_of(page([facts_of(memory, device)], None, "host"))
    assert "Nothing is stored yet, so there is no map." in said
    assert "There was no request yet." in said
    assert "let fuseswap top --record FILE run" in said
    assert "= memory for them" in said


def test_a_device_whose_worker_says_nothing(memory: SharedMemory, used: Device) -> None:
    """Its tables are there, if a process has them."""
    facts = facts_of(
        memory, used, status="silent", reason="no answer for 5 s", stats={}, params={},
        log=["worker 7: <hangs>"],
    )  # fmt: skip
    facts.times.clear()
    text = page([facts], None, "host")
    said = words_of(text)
    assert "silent, 5M, swap, priority 100" in said
    assert "no answer for 5 s" in said
    assert "worker 7: <hangs>" in said
    assert "The worker gives no numbers now." in said
    assert "The worker gives no times now." in said
    assert "<h4>Map of the swapfile</h4>" in text


def test_a_device_without_a_worker() -> None:
    status = status_of("swap0", status="degraded", reason="it fell 3 times", size_bytes=None)
    said = words_of(page([Facts("swap0", status, [Part("swap0", None, "no worker")])], [], "host"))
    assert "degraded, lz4, swap, priority 100" in said
    assert "There is no map: no worker." in said
    assert "The recording has nothing of swap0." in said


def test_stripes_have_a_map_each_and_the_hour_together(memory: SharedMemory, used: Device) -> None:
    facts = facts_of(memory, used, "set")
    found = facts.parts[0].survey
    both = Facts("set", facts.status, [Part("set/0", found), Part("set/1", found)], facts.times)
    text = page([both], moments("set/0", "set/1"), "host")
    assert text.count("<h4>Map of the swapfile</h4>") == 2
    said = words_of(text)
    assert "The swapfile of set/0" in said
    assert "The swapfile of set/1" in said
    assert "60" in text.partition("<h4>Pages a second</h4>")[2].partition("</figure>")[0]


def test_several_devices_have_a_section_each(memory: SharedMemory, used: Device) -> None:
    found = [facts_of(memory, used, name) for name in ("a", "b")]
    text = page(found, None, "host")
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["a", "b"]
    assert "<title>fuseswap report: a, b</title>" in text


def test_what_came_from_elsewhere_is_text(memory: SharedMemory, used: Device) -> None:
    """Names, reasons, lines of a log, tiers, places of a histogram, codecs."""
    facts = facts_of(
        memory, used, HOSTILE, status=HOSTILE, reason=HOSTILE, warnings=[HOSTILE], log=[HOSTILE],
        swap_priority=HOSTILE, params={"compressor": HOSTILE},
        tiers=[tier_of(HOSTILE, state=HOSTILE)],
    )  # fmt: skip
    facts.stats[f"codec_pages.{HOSTILE}"] = 4
    facts.stats[f"codec_bytes.{HOSTILE}"] = 900
    facts.times[0].place = f"tier:{HOSTILE}"
    facts.times[1].request = HOSTILE
    text = page([facts], moments(HOSTILE), HOSTILE)
    found = read_page(text)
    assert "alert(1)" in text
    assert "\x1b" not in text
    assert text.isascii()
    assert sum(SHOWN in one for one in found.texts) >= 10


def test_a_map_has_a_cell_for_each_place_in_use(memory: SharedMemory, used: Device) -> None:
    facts = facts_of(memory, used)
    found = facts.parts[0].survey
    assert found is not None
    text = page([facts], None, "host")
    drawing = text.partition("<h4>Map of the swapfile</h4>")[2].partition("</figure>")[0]
    for state, style in (
        (State.COMPRESSED, "compressed"),
        (State.RAW, "raw"),
        (State.SAME_FILLED, "same"),
    ):
        cells = sum(cell.main_state is state for cell in found.cells)
        assert cells
        assert drawing.count(f'class="{style}"') == cells + 1, "one is in the key"
