"""``fuseswap estimate``: what a sample of pages would take, and how far that may be off."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuseswap.cli import main
from fuseswap.cli.estimation import AT_ONCE, COLD, ZRAM_LZ4, ZRAM_ZSTD, Estimate, estimate
from fuseswap.cli.zsmalloc import object_bytes
from fuseswap.codecs.lz4 import Lz4
from fuseswap.linux.anonymous_memory import AnonymousMemory
from fuseswap.store.object_size import footprint
from fuseswap.units import PAGE_SIZE
from tests.support import pages

pytestmark = pytest.mark.slow

WAYS = [ZRAM_LZ4, ZRAM_ZSTD, AT_ONCE, COLD]


def by_name(found: list[Estimate]) -> dict[str, Estimate]:
    return {one.name: one for one in found}


# -- the allocator of zram ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "taken"),
    [
        (1, 32),
        (24, 32),  # the handle is 8 bytes
        (25, 48),  # 256 of them in three pages
        (1016, 1024),
        (2041, 8 * 4096 / 15),  # 2064 to 2176 bytes are one class
        (3624, 8 * 4096 / 9),
        (3625, 4096),  # nothing but whole pages beyond
        (4096, 4096),
    ],
)
def test_what_an_object_takes_in_zsmalloc(length: int, taken: float) -> None:
    assert object_bytes(length) == taken


# -- what pages take ---------------------------------------------------------------------


def test_all_pages_of_one_kind_are_counted_as_they_are_kept() -> None:
    page = pages.hexadecimal(1)
    found = by_name(estimate([page] * 8, 8))
    length = len(Lz4().compressor(None)(page))
    assert list(found) == WAYS
    assert found[ZRAM_LZ4].taken_bytes == round(8 * object_bytes(length))
    assert found[ZRAM_LZ4].of_zram == 1
    assert found[AT_ONCE].taken_bytes == 8 * (8 + footprint(length))
    assert found[COLD].taken_bytes < found[AT_ONCE].taken_bytes
    assert all(one.open_us is not None and one.open_us > 0 for one in found.values())


def test_pages_that_do_not_compress_are_whole_and_not_opened() -> None:
    found = by_name(estimate([pages.incompressible(n) for n in range(4)], 4))
    assert found[ZRAM_LZ4].taken_bytes == found[ZRAM_ZSTD].taken_bytes == 4 * PAGE_SIZE
    assert found[COLD].taken_bytes == 4 * (8 + footprint(PAGE_SIZE))
    assert [one.open_us for one in found.values()] == [None] * 4


def test_same_filled_pages_take_a_word_at_most() -> None:
    found = by_name(estimate([b"fuseswap" * 512, bytes(PAGE_SIZE)], 2))
    assert found[ZRAM_LZ4].taken_bytes == found[ZRAM_ZSTD].taken_bytes == 0
    assert found[AT_ONCE].taken_bytes == found[COLD].taken_bytes == 16


def test_a_dictionary_counts_and_has_to_pay() -> None:
    related = [pages.related(n) for n in range(600)]
    few, many = (by_name(estimate(related, total))[COLD] for total in (600, 600_000))
    assert many.of_zram < 0.8 * few.of_zram


# -- how sure it is ----------------------------------------------------------------------


def test_it_is_certain_where_all_pages_were_looked_at() -> None:
    mixed = [pages.hexadecimal(n) if n % 2 else bytes(PAGE_SIZE) for n in range(20)]
    assert {(one.off_bytes, one.off_of_zram) for one in estimate(mixed, 20)} == {(0, 0.0)}


def test_it_is_surer_of_more_pages() -> None:
    mixed = [pages.hexadecimal(n) if n % 2 else bytes(PAGE_SIZE) for n in range(400)]
    few, many = (by_name(estimate(mixed[:n], 40_000))[ZRAM_LZ4].off_bytes for n in (100, 400))
    assert few / many == pytest.approx(2, rel=0.02)
    # Half of the pages take nothing: s is half of what the others take.
    taken = object_bytes(len(Lz4().compressor(None)(mixed[1])))
    assert many == pytest.approx(1.96 * (taken / 2) / 20 * 40_000, rel=0.03)


# -- the command -------------------------------------------------------------------------


def test_a_file_of_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pages"
    different = b"".join(pages.nearly_incompressible(n, 50 + 90 * n) for n in range(40))
    path.write_bytes(different + b"half a page")
    assert main(["estimate", str(path), "--pages", "10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pages"], found["sampled_pages"]) == (40, 10)
    assert [way["name"] for way in found["ways"]] == WAYS
    assert found["ways"][0]["off_bytes"] > 0
    assert main(["estimate", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "From 40 of 40 pages" in shown
    assert max(map(len, shown.splitlines())) <= 80


CHILD = """
import mmap, sys
held = mmap.mmap(-1, 64 << 12, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
held[:] = sys.argv[1].encode() * (len(held) // len(sys.argv[1]))
shared = mmap.mmap(-1, 4096 << 12)
shared[:] = bytes(len(shared))
print(flush=True)
sys.stdin.read()
"""


def test_anonymous_pages_of_a_process(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [sys.executable, "-c", CHILD, "fuseswap"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert main(["estimate", "--pid", str(child.pid), "--json"]) == 0
        assert child.poll() is None
        child.kill()
    found = json.loads(capsys.readouterr().out)
    assert 64 <= found["pages"] < 4096  # what is shared is no anonymous memory
    assert found["sampled_pages"] == found["pages"]
    assert found["ways"][0]["taken_bytes"] < found["pages"] * PAGE_SIZE // 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--pid", "999999999"], "there is no process 999999999"),
        (["--cgroup", "/no/such"], "there is no memory cgroup '/no/such'"),
        (["--pages", "0"], "--pages is 1 to 65536"),
        (["--pid", str(os.getpid()), "/file"], "not allowed with argument"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["estimate", *arguments])
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == 1
    assert complaint in capsys.readouterr().err


def test_an_empty_file_has_no_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").touch()
    assert main(["estimate", str(tmp_path / "empty")]) == 2
    assert "no anonymous pages" in capsys.readouterr().err


def test_a_page_that_is_gone_is_left_out() -> None:
    held = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held[:] = b"x" * len(held)
    memory = AnonymousMemory.of(os.getpid())
    numbers = list(range(memory.pages))
    assert sum(page == b"x" * PAGE_SIZE for page in memory.read(numbers)) >= 256
    held.close()
    assert sum(page == b"x" * PAGE_SIZE for page in memory.read(numbers)) < 256
