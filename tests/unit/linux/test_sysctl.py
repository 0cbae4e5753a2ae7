"""Settings of vm: what is set, what is left alone, and what comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseswap.linux import sysctl
from fuseswap.linux.kept_settings import KeptSettings
from fuseswap.linux.sysctl import Sysctl
from fuseswap.units import GIB, MIB

WANTED = sysctl.recommended(384 * MIB, thorough=True)


@pytest.fixture
def vm(tmp_path: Path) -> Path:
    (tmp_path / "vm").mkdir()
    for name, value in zip(sysctl.NAMES, (15000, 10, 2500), strict=True):
        (tmp_path / "vm" / name).write_text(f"{value}\n")
    return tmp_path / "vm"


def test_only_what_costs_nothing_is_set_unless_asked() -> None:
    for memory in (192 * MIB, 64 * GIB):
        assert sysctl.recommended(memory) == {"watermark_boost_factor": 0}
        assert set(sysctl.recommended(memory, thorough=True)) == set(sysctl.NAMES)


def test_the_last_of_two_devices_puts_back(vm: Path, tmp_path: Path) -> None:
    settings = Sysctl(tmp_path / "run", vm)
    before = settings.read()
    assert settings.tune("a", WANTED) is None
    assert settings.tune("b", WANTED) is None
    assert settings.read() == WANTED == settings.set_by_us()
    settings.restore({"b"})
    assert settings.read() == WANTED
    settings.restore(set())
    assert settings.read() == before
    assert list((tmp_path / "run").iterdir()) == []


def test_a_better_value_is_not_touched(vm: Path, tmp_path: Path) -> None:
    (vm / "min_free_kbytes").write_text("99999")
    settings = Sysctl(tmp_path / "run", vm)
    settings.tune("a", WANTED)
    assert settings.read()["min_free_kbytes"] == 99999
    assert "min_free_kbytes" not in settings.set_by_us()


def test_what_somebody_else_changed_stays(vm: Path, tmp_path: Path) -> None:
    settings = Sysctl(tmp_path / "run", vm)
    settings.tune("a", WANTED)
    (vm / "watermark_scale_factor").write_text("400")
    settings.restore(set())
    assert settings.read() == {
        "watermark_boost_factor": 15000, "watermark_scale_factor": 400, "min_free_kbytes": 2500
    }  # fmt: skip


def test_a_second_up_keeps_what_was_changed_meanwhile(vm: Path, tmp_path: Path) -> None:
    settings = Sysctl(tmp_path / "run", vm)
    settings.tune("a", WANTED)
    (vm / "watermark_boost_factor").write_text("9")
    settings.tune("b", WANTED)
    assert settings.read() == WANTED
    settings.restore(set())
    assert settings.read()["watermark_boost_factor"] == 9


def test_what_cannot_be_set_is_a_note(
    vm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Sysctl(tmp_path / "run", vm)
    monkeypatch.setattr(KeptSettings, "_write", lambda self, name, value: False)
    note = settings.tune("a", WANTED)
    assert note is not None
    assert "vm.watermark_boost_factor=0" in note
    assert settings.set_by_us() == {}
    assert list((tmp_path / "run").iterdir()) == []


def test_cost() -> None:
    assert sysctl.cost_bytes(WANTED, 400 * MIB) == 12_000 * 1024 + 24 * MIB
