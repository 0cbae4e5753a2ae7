"""Whose backing file it is: one left by a crash is taken again, what others wrote is kept."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fuseswap.tiers import backing_file
from fuseswap.tiers.ownership_label import FIRST_PAGE_AT
from fuseswap.units import MIB
from tests.support.backing_files import SIZE, crash, opened, put, refusal

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backing"


@pytest.mark.parametrize("there", [False, True])
def test_one_left_by_a_crash_is_taken_again(path: Path, there: bool) -> None:
    """And it is still known who made it: what `up` made, `down` removes."""
    if there:
        path.touch()
    first = crash(path)
    again = opened(path, name="swap1")
    assert (first.former, again.former) == (None, "swap0")
    assert first.made == again.made == (not there)
    os.close(again.fd)
    after = opened(path)
    assert after.former == "swap1"
    os.close(after.fd)


def test_one_left_by_a_crash_after_it_was_full_to_the_brim(path: Path) -> None:
    crash(path)
    middle = SIZE - 2 * MIB
    put(path, FIRST_PAGE_AT, os.urandom(middle))
    after = opened(path)
    assert after.former == "swap0"
    os.close(after.fd)


@pytest.mark.parametrize(
    ("at", "mark"),
    [
        (0, b"XFSB"),
        (510, b"\x55\xaa"),
        (512, b"EFI PART"),
        (512, b"LABELONE"),
        (1080, b"\x53\xef"),
        (4086, b"SWAPSPACE2"),
        (4096, b"\xfc\x4e\x2b\xa9"),
        (32769, b"CD001"),
        (65600, b"_BHRfS_M"),
        (-8192, b"\xfc\x4e\x2b\xa9"),
        (-512, b"EFI PART"),
    ],
)
@pytest.mark.parametrize("ours", [False, True], ids=("never ours", "once ours"))
def test_what_others_write_is_refused_and_kept(
    path: Path, at: int, mark: bytes, ours: bool
) -> None:
    if ours:
        crash(path)
    else:
        path.touch()
        os.truncate(path, SIZE)
    put(path, at, mark)
    before = path.read_bytes()
    assert f"{path} holds data; if nobody needs it: dd " in refusal(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("at", [0, 600_000, -4, -MIB])
def test_the_command_it_prints_makes_it_ours(tmp_path: Path, at: int) -> None:
    path = tmp_path / "a name"
    path.write_bytes(bytes(SIZE + 100))
    put(path, at, b"data")
    put(path, 5 * MIB, b"page")
    command = refusal(path).partition(": ")[2]
    subprocess.run(command, shell=True, check=True, stderr=subprocess.DEVNULL)
    assert path.stat().st_size == SIZE + 100
    device = opened(path, SIZE + 100)
    assert device.former is None
    os.close(device.fd)
    assert path.read_bytes()[5 * MIB :][:4] == b"page"


def test_one_from_before_there_were_claims_is_refused(path: Path) -> None:
    """It begins with pages, and ends with them."""
    path.write_bytes(b"old page" * (SIZE // 8))
    assert refusal(path).count("dd if=/dev/zero") == 2


@pytest.mark.parametrize("size_bytes", [SIZE - MIB, SIZE + MIB])
def test_a_claim_for_another_size_is_refused(path: Path, size_bytes: int) -> None:
    crash(path)
    os.truncate(path, size_bytes)
    with open(path, "r+b") as file:  # what is in its last MiB now may be a page
        file.seek(-MIB, os.SEEK_END)
        file.write(bytes(MIB))
    assert "holds data of 'swap0' from when it had 11M" in refusal(path, size_bytes)


def test_a_claim_of_another_machine_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two may see one disk, and no lock of the one is seen by the other."""
    ids = tmp_path / "machine-id"
    monkeypatch.setattr(backing_file, "_MACHINE_ID", ids)
    for text in ("0123\n", "", None):
        ids.unlink(missing_ok=True)
        if text is not None:
            ids.write_text(text)
        path.unlink(missing_ok=True)
        crash(path)
        os.close(opened(path).fd)
        ids.write_text("4567\n")
        assert "holds data of 'swap0' on another machine" in refusal(path)


def test_a_live_one_is_in_use_whatever_is_in_it(path: Path) -> None:
    crash(path)
    device = opened(path)
    assert "in use by another device" in refusal(path)
    os.close(device.fd)
