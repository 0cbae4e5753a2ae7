"""What `status` and `check` say of zswap."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fuseswap.cli import check, main, striped
from fuseswap.cli.below_zswap import put_below
from fuseswap.cli.zswap_lines import zswap_lines
from fuseswap.daemon import stripes
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.stripe_set import StripeSet
from fuseswap.errors import HostError
from fuseswap.linux import zswap
from fuseswap.linux.kept_settings import KeptSettings
from fuseswap.linux.zswap import Zswap
from fuseswap.units import MIB

STATUS: dict[str, Any] = {
    "asked_percent": 5,
    "parameters": {"enabled": "Y", "compressor": "lzo", "max_pool_percent": "5"},
    "pool_bytes": 20 * MIB,
    "stored_bytes": 50 * MIB,
    "loaded_pages": 321,
    "written_back_pages": 77,
}
OFF = {**STATUS, "parameters": {"enabled": "N"}}


def test_a_block_of_lines() -> None:
    empty, *lines = zswap_lines(STATUS, in_bytes=False)
    assert empty == ""
    assert "20M  of 50M uncompressed" in lines[0]
    assert lines[0].endswith("(5 %), lzo")
    assert "321  pages loaded" in lines[1]
    assert "77  pages handed down" in lines[2]
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert str(20 * MIB) in zswap_lines(STATUS, in_bytes=True)[1]


def test_a_zswap_that_was_not_asked_for_is_said_to_be() -> None:
    lines = zswap_lines({**STATUS, "asked_percent": 0}, in_bytes=False)
    assert "not asked for" in lines[-1]


def test_nothing_of_a_zswap_that_is_off_and_should_be() -> None:
    assert zswap_lines({}, in_bytes=False) == []
    assert zswap_lines({**OFF, "asked_percent": 0}, in_bytes=False) == []
    assert "off" in zswap_lines(OFF, in_bytes=False)[1]


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Parameters of a zswap that is off, for commands too."""
    directory = tmp_path / "parameters"
    directory.mkdir()
    for name, value in {**zswap.recommended(20), "enabled": "N"}.items():
        (directory / name).write_text(f"{value}\n")
    monkeypatch.setattr(Zswap.__init__, "__defaults__", (directory,))
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path / "run"))
    return directory


def test_check_says_who_put_zswap_there(kernel: Path, tmp_path: Path) -> None:
    assert check._zswap().good
    (kernel / "enabled").write_text("Y\n")
    unasked = check._zswap()
    assert (unasked.good, unasked.needed) == (False, False)
    assert "unasked" in unasked.text
    (kernel / "enabled").write_text("N\n")
    Zswap(tmp_path / "run").put_in_front("swap0", 5)
    assert check._zswap().good
    for path in kernel.iterdir():
        path.unlink()
    assert "no zswap" in check._zswap().text


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--below-zswap", "swap0"), 1, "'swap0' is not a percentage (a NAME stands before"),
        (("--below-zswap", "0"), 1, "'0' is not a percentage"),
        (("--below-zswap", "91"), 1, "not between 1 and 90"),
    ],
)
def test_what_up_refuses(
    kernel: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    try:
        ended = main(["up", *arguments])
    except SystemExit as exc:
        ended = int(exc.code or 0)
    said = capsys.readouterr().err
    assert (ended, said.count("\n")) == (code, 1)
    assert says in said


def test_up_refuses_without_zswap_before_anything_is_made(
    kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in kernel.iterdir():
        path.unlink()
    kernel.rmdir()
    assert main(["up", "--below-zswap"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "this kernel has no zswap" in said
    assert not (tmp_path / "run").exists()


def test_down_puts_back_what_devices_left_that_are_gone(
    kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Zswap(tmp_path / "run").put_in_front("swap0", 5)
    assert main(["down", "--all"]) == 0
    assert not Zswap(tmp_path / "run").is_on
    assert capsys.readouterr().out == ""


def test_down_of_a_set_puts_back(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set wants it by its first stripe."""
    monkeypatch.setattr(stripes, "down_all", lambda found: None)
    Zswap(tmp_path / "run").put_in_front("swap0/0", 5)
    striped._down_set(StripeSet("swap0"))
    assert not Zswap(tmp_path / "run").is_on


def test_a_zswap_that_refuses_takes_a_new_set_down(
    kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes it down is the caller's; a set that was up stays."""
    runtime = Runtime("swap0/0")
    monkeypatch.setattr(Runtime, "config", lambda self: SimpleNamespace(below_zswap=5))
    write = KeptSettings._write
    monkeypatch.setattr(
        KeptSettings, "_write", lambda self, at, value: at != "enabled" and write(self, at, value)
    )
    undone: list[str] = []
    for was_up in (True, False):
        undone.append(f"was up: {was_up}")
        with pytest.raises(HostError, match="zswap refuses enabled=Y"):
            put_below(runtime, was_up=was_up, take_down=lambda: undone.append("down"))
    assert undone == ["was up: True", "was up: False", "down"]
    assert (kernel / "max_pool_percent").read_text() == "20\n"
