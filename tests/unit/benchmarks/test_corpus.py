"""The corpus: which pages count, that they are the right bytes, and who may see them."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.units import MIB, PAGE_SIZE
from tests.benchmarks import corpus, corpus_pages, corpus_programs, corpus_table

PRESENT, SWAPPED, OF_A_FILE = 1 << 63, 1 << 62, 1 << 61

MAPS = """\
55d0c0a00000-55d0c0a02000 r--p 00000000 fe:00 1234                       /usr/bin/a program
55d0c0a02000-55d0c0a03000 rw-p 00002000 fe:00 1234                       /usr/bin/a program
7f0000000000-7f0000004000 rw-p 00000000 00:00 0
7f0000010000-7f0000014000 rw-s 00000000 00:01 99                         /dev/zero (deleted)
7ffd00000000-7ffd00002000 rw-p 00000000 00:00 0                          [stack]
7ffd00010000-7ffd00014000 r--p 00000000 00:00 0                          [vvar]
7ffd00014000-7ffd00016000 r-xp 00000000 00:00 0                          [vdso]
"""


def test_private_mappings_are_looked_at_and_what_is_no_memory_is_not() -> None:
    assert corpus_pages.private_mappings(MAPS) == [
        (0x55D0C0A00, 0x55D0C0A02),
        (0x55D0C0A02, 0x55D0C0A03),
        (0x7F0000000, 0x7F0000004),
        (0x7FFD00000, 0x7FFD00002),
    ]


def test_a_page_counts_if_it_is_present_and_of_no_file() -> None:
    entries = [PRESENT, PRESENT | 5, 0, PRESENT | OF_A_FILE, SWAPPED, PRESENT]
    assert list(corpus_pages.runs_of(100, entries)) == [(100, 2), (105, 1)]


@pytest.mark.parametrize("limit", [1, 63, 64, 200, 1000])
def test_a_part_is_spread_over_all_and_no_larger_than_asked(limit: int) -> None:
    runs = [(0, 100), (1000, 1), (2000, 5000), (9000, 300)]
    everything = [page for first, count in runs for page in range(first, first + count)]
    kept = corpus_pages.thinned(runs, limit)
    pages = [page for first, count in kept for page in range(first, first + count)]
    assert len(pages) <= limit
    assert pages == sorted(set(pages))
    assert set(pages) <= set(everything)
    assert len(pages) > limit - 64
    assert limit < 1000 or pages[-1] >= 6000


def test_all_is_kept_where_it_is_not_too_much() -> None:
    assert corpus_pages.thinned([(5, 10), (50, 10)], 20) == [(5, 10), (50, 10)]


@contextlib.contextmanager
def holder(seed: int, pages: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with known pages in memory, between two that it never touched."""
    code = (
        "import mmap, random, sys\n"
        f"memory = mmap.mmap(-1, {(pages + 2) * PAGE_SIZE}, flags=mmap.MAP_PRIVATE)\n"
        f"memory[{PAGE_SIZE}:-{PAGE_SIZE}] = random.Random({seed}).randbytes({pages * PAGE_SIZE})\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def test_a_running_process_is_dumped_whole_and_goes_on(tmp_path: Path) -> None:
    with holder(7, 300) as process:
        path = corpus.make_of_running(tmp_path / "new", process.pid)
        assert not corpus_programs.is_stopped(process.pid)
        assert process.poll() is None
    content = path.read_bytes()
    assert random.Random(7).randbytes(300 * PAGE_SIZE) in content
    assert len(content) % PAGE_SIZE == 0
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    assert corpus.files(path.parent) == [path]


def test_a_process_that_was_stopped_stays_stopped(tmp_path: Path) -> None:
    with holder(8, 1) as process:
        corpus_programs.stop(process.pid)
        corpus.make_of_running(tmp_path / "new", process.pid)
        assert corpus_programs.is_stopped(process.pid)


def test_at_most_so_much_is_dumped(tmp_path: Path) -> None:
    with holder(9, 1000) as process:
        path = corpus.make_of_running(tmp_path / "new", process.pid, 2)
    assert path.stat().st_size == 2 * MIB


def test_who_serves_swap_is_not_stopped(tmp_path: Path) -> None:
    with holder(1, 1, "fuseswap.daemon.worker") as process:
        with pytest.raises(HostError, match="serves fuseswap"):
            corpus.make_of_running(tmp_path / "new", process.pid)
        assert not corpus_programs.is_stopped(process.pid)


@pytest.mark.parametrize("which", ["init", "self"])
def test_what_must_not_be_stopped_is_not(tmp_path: Path, which: str) -> None:
    pid = 1 if which == "init" else os.getpid()
    with pytest.raises(HostError, match="name another"):
        corpus.make_of_running(tmp_path / "new", pid)
    assert not (tmp_path / "new").exists()


def test_a_process_that_ended_is_an_error(tmp_path: Path) -> None:
    with holder(1, 1) as process:
        pass
    with pytest.raises(HostError, match="has ended"):
        corpus.make_of_running(tmp_path / "new", process.pid)


def test_a_directory_others_may_look_into_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(HostError, match="chmod 700"):
        corpus.make_dir(tmp_path)


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HostError, match="cannot make the directory"):
        corpus.make_dir(tmp_path / "file" / "below")


def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(HostError, match="not a directory of yours"):
        corpus.make_dir(tmp_path / "link")


def test_a_program_that_is_missing_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match=r"'sqlite3' is not installed.*apt-get install sqlite3"):
        list(corpus.make(tmp_path / "new", [corpus_programs.PROGRAMS["sqlite"]]))
    assert not (tmp_path / "new").exists()


def test_a_program_that_ends_before_it_is_ready_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "perl"
    fake.write_text("#!/bin/sh\necho out of order >&2\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(HostError, match="out of order"):
        list(corpus.make(tmp_path / "new", [corpus_programs.PROGRAMS["perl"]]))
    assert corpus.files(tmp_path / "new") == []


def test_pages_are_counted_as_what_they_are_first() -> None:
    noise = random.Random(1).randbytes(PAGE_SIZE)
    text = (b"some words and " * 300)[:PAGE_SIZE]
    word = b"12345678" * (PAGE_SIZE // 8)
    found = corpus_table.survey("a", [noise, bytes(PAGE_SIZE), text, text, word, noise])
    assert (found.pages, found.same_filled, found.duplicates, found.unique) == (6, 2, 2, 2)
    assert PAGE_SIZE / 2 < found.mean_bytes["lz4"] < PAGE_SIZE / 2 + 64


def test_the_sum_is_weighted_by_unique_pages() -> None:
    one = corpus_table.Content("a", 10, 5, 4, {"lz4": 1000, "zstd:1": 500})
    three = corpus_table.Content("b", 3, 0, 0, {"lz4": 2000, "zstd:1": 700})
    total = corpus_table.total([one, three])
    assert (total.pages, total.same_filled, total.duplicates, total.unique) == (13, 5, 4, 4)
    assert total.mean_bytes == {"lz4": 1750, "zstd:1": 650}


def test_wrong_options_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        corpus.parse(["--programs", "perl,emacs"])
    assert end.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_pids_and_programs_exclude_each_other() -> None:
    with pytest.raises(SystemExit):
        corpus.parse(["--pid", "12", "--programs", "perl"])
