"""``fuseswap explain`` in words: one short line each, and none about what does not apply."""

from __future__ import annotations

import json

import pytest

from fuseswap.cli import main
from fuseswap.cli.explain import in_words
from fuseswap.daemon.device_files import GeometryNumbers, Settings
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.explain import Explanation, explain
from fuseswap.units import PAGE_SIZE, PageNumber, SegmentId
from tests.support import pages

# A device that is not mounted.
NOWHERE = Settings("/nowhere", "devfuse", 1 << 20, GeometryNumbers(256, 18, 17), {}, {})


def words(found: Explanation) -> list[str]:
    return in_words(json.loads(found.as_json()))


def test_a_hole_is_two_lines() -> None:
    assert words(Explanation(PageNumber(5), "hole", "never stored")) == [
        "page 5, at 20K",
        "  where     nowhere: a hole",
        "  why       never stored",
    ]


def test_an_object_in_memory(device: Device) -> None:
    device.swapfile.write(PAGE_SIZE, memoryview(pages.nearly_incompressible(1, 2000)))
    size = explain(device, PageNumber(1)).stored_bytes
    assert words(explain(device, PageNumber(1))) == [
        "page 1, at 4K",
        "  where     in memory",
        "  why       hot: stored a moment ago",
        "  backend   cache",
        f"  kept as   lz4, {size} bytes (49 %)",
        "  segment   1, still open",
        "  loaded    not since it was stored",
        "  checksum  ok",
    ]


def test_a_same_filled_page_shows_its_word(device: Device) -> None:
    device.swapfile.write(0, memoryview(pages.filled(pages.FITS)))
    assert "  kept as   0x0000000f12345678, repeated" in words(explain(device, PageNumber(0)))


def test_what_is_far_away_and_shared() -> None:
    lines = words(
        Explanation(
            PageNumber(1),
            "backing file",
            "cold",
            "cache",
            "backing_file",
            2,
            codec="zstd",
            dictionary=3,
            dictionary_bytes=64 << 10,
            stored_bytes=1024,
            segment=SegmentId(9),
            segment_is_open=False,
            age_seconds=70,
            file_offset=1 << 21,
            loaded_since_stored=True,
            pages=3,
            checksum="not read",
        )
    )
    assert lines[1:] == [
        "  where     on the backing file, at byte 2097152",
        "  why       cold",
        "  backend   cache",
        "  kept as   zstd with dictionary 3 of 64 KiB, 1024 bytes (25 %)",
        "  segment   9, sealed 70 s ago",
        "  loaded    since it was stored",
        "  shared    with 2 other pages",
        "  checksum  not looked at: it is not in memory",
    ]


def test_a_page_on_a_tier_of_another_name() -> None:
    found = Explanation(PageNumber(1), "tier far0", "cold", "cache", "far0", 7)
    assert words(found)[1] == "  where     on tier far0, extent 7"
    found = Explanation(PageNumber(1), "tier disk", "cold", None, "disk", 7, file_offset=99)
    assert words(found)[1] == "  where     on tier disk, extent 7 of its file, at byte 99"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("256",), "there is no page 256: some has 256, from 0"),
        (("9" * 5000,), "not the number of a page"),
        (("x",), "'x' is not the number of a page"),
        (("-1",), "unrecognized|not the number|arguments"),
        (("0x1",), "not the number of a page"),
        (("\u0661",), "not the number of a page"),
        ((), "or --offset BYTES"),
        (("1", "--offset", "4096"), "or --offset BYTES"),
        (("--offset", "1M"), "there is no page 256"),
        (("--offset", "some"), "'some' is not a size"),
    ],
)
def test_a_page_that_is_none_is_one_line_and_exit_code_1(
    arguments: tuple[str, ...],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Runtime, "config", lambda runtime: NOWHERE)
    try:
        code = main(["explain", "some", *arguments])
    except SystemExit as exc:
        code = int(exc.code or 0)
    said = capsys.readouterr().err
    assert code == 1
    assert any(part in said for part in complaint.split("|"))
    assert said.count("\n") == 1


def test_a_device_that_is_not_mounted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Runtime, "config", lambda runtime: NOWHERE)
    assert main(["explain", "some", "--offset", "4097"]) == 2
    assert capsys.readouterr().err == "fuseswap: some is not mounted, or its worker is older\n"
