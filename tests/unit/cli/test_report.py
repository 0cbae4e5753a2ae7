"""How `report` ends where there is nothing to draw, or nothing to draw with, or nowhere to."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from fuseswap.cli import report
from fuseswap.cli.commands import main
from fuseswap.errors import HostError


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(mode=0o700)
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ((), 2, "no devices; try: sudo fuseswap up"),
        (("swap9",), 2, "there is no device 'swap9' (see: fuseswap status)"),
        (("a<b",), 1, "'a<b' is not a name"),
        (("a", "b"), 1, "'b' is unknown here"),
    ],
)
def test_one_line_and_nothing_else(
    arguments: tuple[str, ...],
    code: int,
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    file = tmp_path / "report.html"
    try:
        found = main(["report", *arguments, "--output", str(file)])
    except SystemExit as exc:
        found = int(exc.code or 0)
    assert found == code
    printed, complained = capsys.readouterr()
    assert printed == ""
    assert complaint in complained
    assert complained.count("\n") == 1
    assert not file.exists()


def test_what_draws_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "drawsvg", None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(HostError, match=r"^drawsvg is not installed; run: pip install --target /"):
        report._page()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pip").touch()
    with pytest.raises(HostError, match=rf"run: {tmp_path}/bin/pip install 'drawsvg>=2.4'$"):
        report._page()


def test_it_is_the_version_of_the_extra() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert f'report = ["{report._WANTED}"]' in text


def test_a_terminal_gets_no_html(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "is_terminal", lambda file: True)
    assert main(["report"]) == 1
    assert "fuseswap report > report.html" in capsys.readouterr().err


def test_a_file_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot write .*/none/x.html: No such file or directory"):
        report._write("text", str(tmp_path / "none" / "x.html"))


def test_standard_output_has_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    report._write("<!DOCTYPE html>", None)
    assert stream.getvalue() == "<!DOCTYPE html>"
