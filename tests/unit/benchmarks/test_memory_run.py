"""The suite `memory`: what is stored, how it is judged, and its drawing."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fuseswap.errors import HostError
from fuseswap.units import KIB, PAGE_SIZE
from tests.benchmarks import forked, memory_run, page_io, page_sets, plot, report
from tests.benchmarks.command import ROOT
from tests.benchmarks.counters import MemoryUse, parse_mm_stat
from tests.benchmarks.results import Limit, Measurement, Sense, SuiteResult, judgements


def make_page(number: int) -> bytes:
    return random.Random(number).randbytes(PAGE_SIZE)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two programs: a duplicate within one and between both, and zeros."""
    contents = {
        "a": [make_page(1), make_page(2), bytes(PAGE_SIZE), make_page(1)],
        "python": [make_page(2), bytes(PAGE_SIZE), *(make_page(at) for at in range(10, 210))],
    }
    paths = []
    for name, pages in contents.items():
        paths.append(tmp_path / f"{name}.pages")
        paths[-1].write_bytes(b"".join(pages))
    return paths


def pages_in(path: Path) -> list[bytes]:
    content = path.read_bytes()
    return [content[at : at + PAGE_SIZE] for at in range(0, len(content), PAGE_SIZE)]


def test_unique_has_each_page_once_and_no_same_filled_one(
    files: list[Path], tmp_path: Path
) -> None:
    assert page_sets.write("unique", files, tmp_path / "set") == 202
    assert pages_in(tmp_path / "set") == [make_page(at) for at in (1, 2, *range(10, 210))]


def test_all_has_every_page(files: list[Path], tmp_path: Path) -> None:
    assert page_sets.write("all", files, tmp_path / "set") == 206
    assert (tmp_path / "set").read_bytes() == b"".join(path.read_bytes() for path in files)


def test_fork_has_copies_of_one_program_that_differ_in_a_tenth(
    files: list[Path], tmp_path: Path
) -> None:
    assert page_sets.write("fork", files, tmp_path / "set") == 3 * 202
    pages = pages_in(tmp_path / "set")
    origin = pages_in(files[1])
    copies = [pages[at : at + 202] for at in range(0, len(pages), 202)]
    different = [{at for at in range(202) if copy[at] != origin[at]} for copy in copies]
    assert all(5 < len(found) < 40 for found in different)
    assert different[0] != different[1] != different[2]


def test_a_copy_diverges_the_same_way_each_time_and_a_bad_page_is_found(files: list[Path]) -> None:
    with mmap.mmap(-1, files[1].stat().st_size) as memory:
        forked.write_again(memory, files[1], 1)
        assert forked.bad_pages(memory, files[1], 1) == 0
        assert forked.bad_pages(memory, files[1], 2) > 0
        memory[5 * PAGE_SIZE + 9] ^= 1
        assert forked.bad_pages(memory, files[1], 1) == 1


def test_forked_processes_check_their_pages(files: list[Path]) -> None:
    line = [sys.executable, "-m", "tests.benchmarks.forked", str(files[1]), "3"]
    done = subprocess.run(line, input=b"\n", capture_output=True, cwd=ROOT, check=True)
    assert done.stdout == b'ready\n{"bad_pages": 0}\n'


def test_a_corpus_of_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.pages").write_bytes(b"")
    with pytest.raises(HostError, match="scripts/corpus"):
        page_sets.write("all", [tmp_path / "a.pages"], tmp_path / "set")


@pytest.fixture
def device(tmp_path: Path) -> str:
    """A file that takes direct I/O."""
    path = tmp_path / "device"
    path.write_bytes(bytes(512 * KIB))
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        pytest.skip(f"no direct I/O in {tmp_path}")
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pages that are no multiple of a request."""
    path = tmp_path / "data"
    path.write_bytes(b"".join(make_page(at) for at in range(75)))
    return path


def test_what_is_written_is_verified(device: str, data: Path) -> None:
    assert page_io.main(["write", device, str(data)]) == 0
    assert page_io.main(["verify", device, str(data)]) == 0


@pytest.mark.parametrize("at", [0, 40 * PAGE_SIZE + 17, 75 * PAGE_SIZE - 1])
def test_one_wrong_byte_is_a_bad_page(
    device: str, data: Path, at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    page_io.main(["write", device, str(data)])
    with open(device, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    assert page_io.main(["verify", device, str(data)]) == 2
    assert "BAD PAGE" in capsys.readouterr().err


def test_as_many_reads_are_timed_of_each_as_asked(device: str) -> None:
    reads = page_io.SLICE_READS + 3
    found = page_io.timed([device, device], 512 * KIB, reads, seed=1)
    assert [len(one) for one in found] == [reads, reads]
    assert all(nanoseconds > 0 for one in found for nanoseconds in one)


def test_mm_stat_of_zram() -> None:
    text = "  471617536  180633600  185835520        0  185835520        0        0     0   2\n"
    assert parse_mm_stat(text) == MemoryUse(185835520, 180633600, 0)


def test_percentiles_are_microseconds() -> None:
    found = memory_run.percentiles([at * 1000 for at in range(101)])
    assert found == {"read_p50_us": 50.0, "read_p99_us": 99.0}


def stored(used: float, p50: float | None = None) -> dict[str, float]:
    return {"bytes_per_page": used} | ({} if p50 is None else {"read_p50_us": p50})


def test_peers_are_seen_against_zram_and_lz4() -> None:
    found = memory_run.with_ratios(
        {"fuseswap": stored(90, 15), "fuseswap-zstd": stored(60, 20), "zram": stored(100, 5)}
    )
    assert found["fuseswap"]["of_zram"] == 0.9
    assert found["fuseswap-zstd"]["of_zram"] == 0.6
    assert found["fuseswap-zstd"]["p50_over_lz4_us"] == 5
    assert found["zram"]["p50_over_lz4_us"] == -10


def test_without_zram_or_times_nothing_is_made_up() -> None:
    found = memory_run.with_ratios({"fuseswap": stored(90), "fuseswap-zstd": stored(60)})
    assert set(found["fuseswap"]) == {"bytes_per_page"}


def test_every_limit_names_a_job_and_a_peer_of_it() -> None:
    for limit in memory_run.LIMITS:
        assert limit.peer in memory_run.JOBS[limit.job]


def test_every_peer_of_a_job_can_be_made() -> None:
    named = {name for names in memory_run.JOBS.values() for name in names}
    assert named == set(memory_run.PEERS)
    assert {make().name for make in memory_run.PEERS.values()} == named


def make_result(
    values: Mapping[str, Sequence[Mapping[str, float]]], limits: Sequence[Limit] = ()
) -> SuiteResult:
    return SuiteResult(
        name="memory",
        baseline="fuseswap",
        compared=(),
        shown=("bytes_per_page", "read_p50_us"),
        peers=dict.fromkeys(values, "a peer"),
        settings={"rounds": 3},
        notes=(),
        commands=[],
        targets=(),
        measurements=[
            Measurement("unique", peer, at, one)
            for peer, found in values.items()
            for at, one in enumerate(found)
        ],
        limits=limits,
    )


AT_MOST_HALF = Limit("unique", "of_zram", "fuseswap", Sense.AT_MOST, 0.5)


@pytest.mark.parametrize(("middle", "met"), [(0.5, True), (0.501, False)])
def test_a_limit_is_for_the_median(middle: float, met: bool) -> None:
    rounds = [{"of_zram": 0.1}, {"of_zram": middle}, {"of_zram": 0.9}]
    result = make_result({"fuseswap": rounds}, [AT_MOST_HALF])
    (found,) = judgements(result)
    assert (found.value, found.lowest, found.highest) == (middle, 0.1, 0.9)
    assert found.is_met is met
    assert (
        report.summary([result])
        == f"targets: {int(met)} met, {int(not met)} not met, 0 not measured"
    )
    assert report.as_json([result], {}, [])["suites"]["memory"]["limits"][0]["met"] is met


def test_a_limit_that_was_not_measured_is_said_to_be() -> None:
    result = make_result({"fuseswap": [{"bytes_per_page": 7}]}, [AT_MOST_HALF])
    assert judgements(result) == []
    assert report.summary([result]) == "targets: 0 met, 0 not met, 1 not measured"


def test_a_number_that_was_not_measured_is_a_dash() -> None:
    text = report.absolute_table(make_result({"fuseswap": [{"bytes_per_page": 7}]}))
    assert text.splitlines()[-1].split() == ["unique", "fuseswap", "7", "-"]


def test_the_drawing_is_xml_with_a_bar_for_each_number() -> None:
    both = {"bytes_per_page": 1500.0, "read_p50_us": 15.0, "read_p99_us": 280.0}
    text = plot.draw(make_result({"fuseswap": [both], "zram <lz4>": [{"bytes_per_page": 1600.0}]}))
    root = ElementTree.fromstring(text)
    bars = [bar for bar in root.iter() if bar.tag.endswith("rect") and len(bar)]
    assert len(bars) == 4
    shown = [text.text for text in root.iter() if text.tag.endswith("text")]
    assert {"1500", "1600", "15.0", "280", "zram <lz4>"} <= set(shown)
    heights = [float(bar.get("height", "")) for bar in bars]
    assert heights[0] / heights[1] == pytest.approx(1500 / 1600, abs=0.01)


def test_without_latencies_there_is_no_drawing_of_them() -> None:
    text = plot.draw(make_result({"fuseswap": [{"bytes_per_page": 1500.0}]}))
    assert "microseconds" not in text


@pytest.mark.parametrize("highest", [0.003, 1.0, 7.0, 1614.0, 99999.0])
def test_steps_are_round_and_reach_the_top(highest: float) -> None:
    ticks = plot.steps(highest)
    assert ticks[0] == 0
    assert ticks[-2] < highest <= ticks[-1]
    assert len(ticks) <= 6


@pytest.mark.parametrize(("lowest", "highest"), [(4.6, 297), (1, 1), (0.4, 9000)])
def test_decades_have_both_between(lowest: float, highest: float) -> None:
    ticks = plot.decades(lowest, highest)
    assert ticks[0] <= lowest <= highest <= ticks[-1]
    assert ticks[0] < ticks[-1]
