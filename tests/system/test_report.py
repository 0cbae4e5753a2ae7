"""``fuseswap report`` of real devices, as a person sees it: in light and dark, wide and narrow."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuseswap.cli.recording import read_recording
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.browser import Browser, browser
from tests.support.html_pages import read_page, words_of
from tests.support.mounted_devices import (
    TestDevice,
    call,
    device_up,
    succeed,
    wait_until,
    worker_of,
)

pytestmark = pytest.mark.no_swap

THIRD = 8 * MIB // PAGE_SIZE
# How far the text of a picture is from what is behind it; 4.5 is enough for small letters.
CONTRAST = """
(() => {
  const light = (color) => {
    const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map(Number).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const least = (selector, property) => Math.min(
    ...[...document.querySelectorAll(selector)].map((one) => {
      const ground = getComputedStyle(one.closest("figure")).backgroundColor;
      const both = [light(getComputedStyle(one)[property]), light(ground)].sort();
      return (both[1] + 0.05) / (both[0] + 0.05);
    }));
  return [least("svg text", "fill"), least("figcaption", "color"), least("rect.solid", "fill")];
})()
"""
# Whatever reaches beyond its figure.
BEYOND = """
[...document.querySelectorAll("figure")].flatMap((figure) => {
  const edge = figure.getBoundingClientRect();
  return [...figure.querySelectorAll("svg text, svg rect, svg path, h4, figcaption, summary")]
    .filter((one) => {
      const box = one.getBoundingClientRect();
      return box.right > edge.right + 1 || box.left < edge.left - 1;
    })
    .map((one) => one.outerHTML.slice(0, 200));
})
"""
# Words of a picture that stand on each other.
OVERLAPPING = """
[...document.querySelectorAll("figure > svg")].flatMap((svg) => {
  const boxes = [...svg.querySelectorAll("text")].map((one) => [one.textContent.trim(),
    one.getBoundingClientRect()]);
  return boxes.flatMap(([text, box], at) => boxes.slice(at + 1)
    .filter(([, other]) => Math.min(box.right, other.right) - Math.max(box.left, other.left) > 1
      && Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top) > 4)
    .map(([other]) => `${text} / ${other}`));
})
"""


@dataclass(frozen=True)
class Reported:
    """A device with 24 MiB of pages of all kinds, and the page about it."""

    device: TestDevice
    path: Path
    recording: Path


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reported]:
    directory = tmp_path_factory.mktemp("report")
    backing = str(directory / "backing")
    with device_up(
        "--size", "64M", "--pool-limit", "16M", "--backing", backing, "--no-swapon"
    ) as up:
        with open(up.swapfile, "r+b", buffering=0) as file:
            for page in range(THIRD):
                for third, data in enumerate(
                    (pages.filled(7), pages.compressible(page), os.urandom(PAGE_SIZE))
                ):
                    os.pwrite(file.fileno(), data, (third * THIRD + page) * PAGE_SIZE)
            succeed("writeback", up.name, "--incompressible")
            wait_until("pages on the tier", lambda: up.stat("bd_count") > 0)
            for page in range(THIRD, 3 * THIRD, 7):
                assert len(os.pread(file.fileno(), PAGE_SIZE, page * PAGE_SIZE)) == PAGE_SIZE
        recording = directory / "hour"
        for count in ("2", "1"):  # the second goes on with the file
            succeed("top", up.name, "--record", str(recording), "--interval", "1", "--count", count)
        path = directory / "report.html"
        succeed("report", up.name, "--output", str(path), "--record", str(recording))
        yield Reported(up, path, recording)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


def test_each_page_is_in_the_map_once(reported: Reported) -> None:
    text = reported.path.read_text()
    read_page(text)
    figure = text.partition("<h4>Map of the swapfile</h4>")[2].partition("</figure>")[0]
    counts = {
        name: int(pages)
        for name, pages in re.findall(r"<tr><td>([^<]+)</td><td>(\d+)</td>", figure)
    }
    assert sum(counts.values()) == 3 * THIRD == reported.device.stat("stored_pages")
    assert counts["same-filled"] == THIRD == reported.device.stat("same_filled_pages")
    assert counts["on a tier"] == reported.device.stat("tier_pages.backing_file") > 0


def test_all_sections_are_there(reported: Reported) -> None:
    said = words_of(reported.path.read_text())
    for word in (
        "running, 64M", "= memory for them", "backing_file (active)", "Loads from memory",
        "Loads from tier backing_file", "Memory over the hour",
    ):  # fmt: skip
        assert word in said


def test_the_recording_has_each_sample(reported: Reported) -> None:
    """One block has two samples: the first has nothing to compare with."""
    moments = read_recording(str(reported.recording))
    assert len(moments) == 3 + 2
    stored = {moment.total([reported.device.name], "stored_bytes") for moment in moments}
    assert stored == {3 * THIRD * PAGE_SIZE}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 400, 1280])
def test_a_browser_shows_it(
    reported: Reported, chromium: Browser, scheme: str, width: int, tmp_path: Path
) -> None:
    chromium.open(reported.path, width=width, scheme=scheme)
    chromium.ask("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert chromium.ask("document.documentElement.scrollWidth") <= width
    assert chromium.ask("document.querySelectorAll('figure > svg').length") >= 10
    assert chromium.ask(BEYOND) == []
    assert chromium.ask(OVERLAPPING) == []
    texts, captions, areas = chromium.ask(CONTRAST)
    assert min(texts, captions) >= 4.5
    assert areas >= 3
    paper = chromium.ask("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is (scheme == "light")
    assert chromium.requested == [reported.path.as_uri()]
    assert chromium.complaints == []
    chromium.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_patterns_are_drawn(reported: Reported, chromium: Browser) -> None:
    """What refers to a pattern finds it; without one it would not be seen at all."""
    chromium.open(reported.path, width=400)
    asked = 'getComputedStyle(document.querySelector("rect.hatched")).fill'
    assert chromium.ask(asked).startswith('url("#hatching")')
    assert chromium.ask('document.querySelectorAll("#hatching, #dots").length') == 2


def test_on_standard_output_it_is_the_same(reported: Reported) -> None:
    assert read_page(succeed("report", reported.device.name)).tags.count("figure") >= 10


def test_the_worker_is_asked_no_more_than_by_status(reported: Reported) -> None:
    """It reads `metrics` once more: nothing is stored, loaded or moved for it."""
    counted = ("loads", "tier_loads", "succ_stores", "bd_reads", "bd_writes", "written_back_pages")
    wait_until("it to be quiet", lambda: reported.device.stat("outstanding_writebacks") == 0)
    before = {name: reported.device.stat(name) for name in counted}
    succeed("report", reported.device.name)
    assert {name: reported.device.stat(name) for name in counted} == before


def test_an_empty_device(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "empty.html"
    with device_up("--size", "64M", "--no-swapon") as up:
        succeed("report", up.name, "--output", str(path))
    assert "Nothing is stored yet, so there is no map." in words_of(path.read_text())
    chromium.open(path, width=400)
    assert chromium.ask("document.documentElement.scrollWidth") <= 400
    assert chromium.complaints == []


def test_a_device_that_is_stopped_and_one_that_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with device_up("--size", "64M", "--no-swapon", "--watchdog", "0") as up:
        with open(up.swapfile, "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), pages.compressible(1) * 16, 0)
        worker = worker_of(up.name)
        os.kill(worker, signal.SIGSTOP)
        try:
            succeed("report", up.name, "--output", str(path))
        finally:
            os.kill(worker, signal.SIGCONT)
        said = words_of(path.read_text())
        assert "silent, 64M" in said
        assert "The worker gives no numbers now." in said
        assert "<h4>Map of the swapfile</h4>" in path.read_text(), "the tables are there"
        status = up.status()
        for pid in (status["supervisor_pid"], status["worker_pid"], status["standby_pid"]):
            os.kill(pid, signal.SIGKILL)
        wait_until("its end", lambda: up.status()["status"] == "dead")
        succeed("report", up.name, "--output", str(path))
        said = words_of(path.read_text())
        assert "dead, 64M" in said
        assert f"There is no map: no worker serves {up.name}" in said
        assert "clean up with: fuseswap down" in said


def test_another_file_is_no_recording(reported: Reported, tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_text("dear all\n")
    for command in (("report", reported.device.name), ("top", "--count", "1")):
        done = call(*command, "--record", str(letter))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"fuseswap: {letter} is no recording of `fuseswap top --record`\n"
    done = call("top", "--count", "1", "--interval", "0.5", "--record", str(tmp_path / "new"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "--interval is 1 second or more" in done.stderr
    assert letter.read_text() == "dear all\n"
    assert not (tmp_path / "new").exists()
