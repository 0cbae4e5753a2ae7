"""The systemd generator: a unit for each device of the configuration files, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.mounted_devices import SOURCE, run

GENERATOR = SOURCE / "mount" / "fuseswap-generator"


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUSESWAP_CONFIG_ROOT", str(tmp_path))
    (tmp_path / "etc" / "fuseswap.conf.d").mkdir(parents=True)
    return tmp_path / "etc"


def units(tmp_path: Path) -> dict[str, str]:
    """Links that the generator makes, and what they lead to."""
    early = tmp_path / "early"
    early.mkdir(exist_ok=True)
    done = run([str(GENERATOR), str(tmp_path / "normal"), str(early), str(tmp_path / "late")])
    assert done.returncode == 0, done.stderr
    return {path.name: str(path.readlink()) for path in early.glob("swap.target.wants/*")}


def test_a_unit_for_each_section(etc: Path, tmp_path: Path) -> None:
    (etc / "fuseswap.conf").write_text("# one\n[swap0]\nsize = 1G\n[swap1]\n")
    (etc / "fuseswap.conf.d" / "10-more.conf").write_text("[more] \n[swap0]\n")
    unit = "/usr/local/lib/systemd/system/fuseswap@.service"
    (tmp_path / unit[1:]).parent.mkdir(parents=True)
    (tmp_path / unit[1:]).touch()
    assert units(tmp_path) == {
        f"fuseswap@{name}.service": unit for name in ("swap0", "swap1", "more")
    }


def test_a_file_of_another_place_is_hidden(etc: Path, tmp_path: Path) -> None:
    lower = tmp_path / "usr" / "lib" / "fuseswap.conf.d"
    lower.mkdir(parents=True)
    (lower / "10-a.conf").write_text("[hidden]\n")
    (lower / "20-b.conf").write_text("[shown]\n")
    (etc / "fuseswap.conf.d" / "10-a.conf").write_text("")
    assert list(units(tmp_path)) == ["fuseswap@shown.service"]


def test_without_configuration_there_is_nothing(etc: Path, tmp_path: Path) -> None:
    assert units(tmp_path) == {}


def test_no_name_leads_elsewhere(etc: Path, tmp_path: Path) -> None:
    (etc / "fuseswap.conf").write_text("[../../evil]\n[..]\n[a b]\n[$(id)]\n[.x]\n")
    assert units(tmp_path) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["early", "etc"]


@pytest.mark.timeout(20)
def test_a_fifo_does_not_stop_the_boot(etc: Path, tmp_path: Path) -> None:
    os.mkfifo(etc / "fuseswap.conf")
    os.mkfifo(etc / "fuseswap.conf.d" / "10-a.conf")
    assert units(tmp_path) == {}
