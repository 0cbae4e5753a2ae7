"""What `check --advise` says of machines whose settings are those of a directory."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fuseswap.cli import advice

ROOT = Path(__file__).parents[3]
_GOOD = {
    "proc/sys/vm/page-cluster": "3",
    "proc/sys/vm/swappiness": "60",
    "proc/sys/vm/watermark_boost_factor": "0",
    "proc/sys/vm/watermark_scale_factor": "10",
    "proc/sys/vm/min_free_kbytes": "67584",
    "sys/module/zswap/parameters/enabled": "N",
    "sys/module/haltpoll/parameters/guest_halt_poll_ns": "200000",
    "sys/devices/system/cpu/cpuidle/current_governor_ro": "haltpoll",
}


def machine(root: Path, **changes: str) -> Path:
    for name, value in _GOOD.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changes.get(path.name.replace("-", "_"), value) + "\n")
    return root


def test_a_machine_as_it_should_be_is_left_alone(tmp_path: Path) -> None:
    found = list(advice.advice(machine(tmp_path)))
    assert len(found) == len(_GOOD) - 1
    assert [one.command for one in found] == [None] * len(found)
    assert all(one.measured and one.wanted == one.current for one in found)


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"page_cluster": "0"}, "sysctl -w vm.page-cluster=3"),
        ({"swappiness": "0"}, "sysctl -w vm.swappiness=60"),
        ({"watermark_boost_factor": "15000"}, "sysctl -w vm.watermark_boost_factor=0"),
        ({"enabled": "Y"}, "echo N > /sys/module/zswap/parameters/enabled"),
        (
            {"guest_halt_poll_ns": "0"},
            "echo 50000 > /sys/module/haltpoll/parameters/guest_halt_poll_ns",
        ),
    ],
)
def test_each_that_should_change_has_its_command(
    tmp_path: Path, changes: dict[str, str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert advice.show(as_json=False, root=machine(tmp_path, **changes)) == 0
    said = capsys.readouterr().out
    assert [line.strip() for line in said.splitlines() if line.startswith("   ")] == [command]
    assert len([line for line in said.splitlines() if line.startswith("set ")]) == 1


def test_zswap_in_front_by_our_own_wish_stays(tmp_path: Path) -> None:
    root = machine(tmp_path, enabled="Y")
    (root / "run" / "fuseswap").mkdir(parents=True)
    (root / "run" / "fuseswap" / ".zswap.json").touch()
    assert not [one for one in advice.advice(root) if one.command]


def test_json_has_one_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    advice.show(as_json=True, root=machine(tmp_path, page_cluster="0"))
    found = json.loads(capsys.readouterr().out)
    assert found[0]["command"] == "sysctl -w vm.page-cluster=3"
    assert {tuple(sorted(one)) for one in found} == {
        ("command", "current", "measured", "name", "wanted")
    }


def test_a_machine_without_such_settings_gets_none(tmp_path: Path) -> None:
    assert list(advice.advice(tmp_path)) == []


def test_figures_are_those_of_the_pages(tmp_path: Path) -> None:
    """A page that is measured anew takes them along."""
    pages = [ROOT / "docs" / "decisions.md", *(ROOT / "docs" / "results").glob("*.md")]
    text = " ".join(" ".join(page.read_text() for page in pages).split())
    said = " ".join(one.measured for one in advice.advice(machine(tmp_path)))
    figures = set(re.findall(r"\d+\.\d+|\d+ to \d+ s|\d+ s\b|\d+ %", said)) - {"1 %"}
    assert len(figures) > 8
    assert not [figure for figure in figures if figure not in text]
