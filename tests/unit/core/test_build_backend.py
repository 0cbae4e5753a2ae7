"""The build: without a compiler, or where it is told so, a wheel of Python alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from fuseswap.core import build_backend
from fuseswap.core.build_backend import CannotCompile, build_wheel, get_requires_for_build_wheel
from tests.support.compiled_core import copy_sources


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler --flag")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory is a source tree, as for pip."""
    (tmp_path / "source").mkdir()
    monkeypatch.chdir(copy_sources(tmp_path / "source"))
    monkeypatch.delenv(build_backend.VARIABLE, raising=False)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_it_is_of_python_alone_and_says_so(
    wheels: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert not [one for one in get_requires_for_build_wheel() if one.startswith("mypy")]
    name = build_wheel(str(wheels))
    assert name.endswith("-py3-none-any.whl")
    said = capfd.readouterr().err
    expected = "fuseswap runs interpreted, since there is no C compiler (no-such-compiler)"
    assert expected in said.splitlines()
    packed = zipfile.ZipFile(wheels / name).namelist()
    assert "fuseswap/store/segment_log.py" in packed
    assert not [one for one in packed if one.endswith(".so")]


@pytest.mark.usefixtures("no_compiler")
def test_compiled_or_not_at_all(wheels: Path) -> None:
    with pytest.raises(CannotCompile, match="no C compiler"):
        build_wheel(str(wheels), {"core": "compiled"})
    assert not list(wheels.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.parametrize("by_option", [False, True])
def test_where_it_is_told_so_nothing_is_compiled(
    wheels: Path, monkeypatch: pytest.MonkeyPatch, by_option: bool
) -> None:
    monkeypatch.setattr(build_backend, "_extensions", None)
    if not by_option:
        monkeypatch.setenv(build_backend.VARIABLE, "interpreted")
    settings = {"core": "interpreted"} if by_option else None
    assert not [one for one in get_requires_for_build_wheel(settings) if one.startswith("mypy")]
    assert build_wheel(str(wheels), settings).endswith("-py3-none-any.whl")


def test_another_word_is_refused(wheels: Path) -> None:
    with pytest.raises(SystemExit, match="'quick' is none of auto, compiled, interpreted"):
        build_wheel(str(wheels), {"core": "quick"})
