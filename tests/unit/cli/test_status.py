"""`status`: one device does not hide the others, and the table as scripts want it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fuseswap.cli import main, watching
from fuseswap.cli.status import COLUMNS
from fuseswap.cli.swap_owners import owners
from fuseswap.daemon import take_down
from fuseswap.daemon.runtime_dir import Runtime, all_devices
from fuseswap.errors import HostError

SETTINGS = {
    "mountpoint": "/nowhere/with a blank",
    "size_bytes": 1 << 20,
    "transport": "devfuse",
    "geometry": {"page_count": 256, "segment_count": 18, "frame_count": 17},
    "region_bytes": {"header": 4096},
    "parameters": {"pool_limit_bytes": "8388608"},
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a device that is not mounted, and two whose files are damaged."""
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    for name, content in (("bad", "{"), ("good", json.dumps(SETTINGS)), ("odd", "{}")):
        (tmp_path / name).mkdir(0o700)
        (tmp_path / name / "config.json").write_text(content)
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["status", *arguments]) == 0
    said = capsys.readouterr()
    is_for_scripts = {"-n", "-o", "-r", "--output-all"} & set(arguments)
    assert bool(said.err) == bool(is_for_scripts), "there reasons are not among the words"
    return said.out.splitlines()


def test_damaged_files_hide_no_device(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys)
    assert [line.split()[:2] for line in lines[:4]] == [
        ["NAME", "STATE"],
        ["bad", "unreadable"],
        ["good", "dead"],
        ["odd", "unreadable"],
    ]
    assert any("bad/config.json is not JSON" in line for line in lines[4:])
    assert any(line.endswith("clean up with: fuseswap down odd") for line in lines[4:])


def test_a_damaged_state_is_unreadable(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "good" / "state.json").write_text("[]")
    assert shown(capsys, "good")[1].split()[:2] == ["good", "unreadable"]


def test_every_device_has_the_same_keys(capsys: pytest.CaptureFixture[str]) -> None:
    devices: list[dict[str, Any]] = json.loads("\n".join(shown(capsys, "--json")))
    assert [device["status"] for device in devices] == ["unreadable", "dead", "unreadable"]
    assert len({frozenset(device) for device in devices}) == 1
    assert devices[0]["size_bytes"] is None
    one = json.loads("\n".join(shown(capsys, "bad", "--json")))
    assert one == devices[0]


def test_the_short_options_of_zramctl(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "-n", "-b", "-o", "name,disksize")
    assert [line.split() for line in lines] == [["bad", "-"], ["good", "1048576"], ["odd", "-"]]
    assert shown(capsys, "--output-all")[0].split() == [column.name for column in COLUMNS]
    assert shown(capsys, "-o", "+max")[0].split()[-2:] == ["SWAP", "MAX"]


def test_raw_cells_have_no_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "good", "-r", "-o", "NAME,MOUNTPOINT")
    assert lines == ["NAME MOUNTPOINT", r"good /nowhere/with\x20a\x20blank"]


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version(capsys: pytest.CaptureFixture[str], option: str) -> None:
    for arguments in ([option], ["status", option]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith("fuseswap ")


def test_watch_prints_again_and_again_where_nobody_draws(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def wait(fds: Any, timeout_s: float) -> None:
        waits.append(timeout_s)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching, "wait", wait)
    assert main(["status", "--watch", "--interval", "0.5"]) == 130
    assert capsys.readouterr().out.count("NAME") == 3
    assert 0 < waits[0] <= 0.5


def test_watch_looks_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at devices that came meanwhile."""
    seen: list[list[str]] = []

    def watch(look: Any, interval_s: float) -> None:
        seen.append(look())
        (Runtime("good").directory / "config.json").unlink()
        seen.append(look())

    monkeypatch.setattr(watching, "watch", watch)
    assert main(["status", "--watch"]) == 0
    assert [sum("good" in line for line in lines) > 0 for lines in seen] == [True, False]


@pytest.mark.parametrize(
    "arguments", [("--watch", "--json"), ("--interval", "2"), ("-o", "NAME", "--output-all")]
)
def test_what_makes_no_sense_together(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    try:
        code = main(["status", *arguments])
    except SystemExit as exc:
        code = int(exc.code or 0)
    assert code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_down_of_all_goes_on_where_one_stays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(runtime: Runtime) -> list[str]:
        if runtime.name == "bad":
            raise HostError("bad is in use")
        return ["odd.img stays as it is: in use"] if runtime.name == "odd" else []

    monkeypatch.setattr(take_down, "down", down)
    assert main(["down", "--all"]) == 2
    said = capsys.readouterr()
    assert said.out.splitlines() == ["good is down", "odd is down"]
    assert said.err.splitlines() == [
        "note: odd.img stays as it is: in use",
        "fuseswap: bad is in use",
    ]


def test_down_takes_away_what_is_damaged(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "good" / "state.json").write_text("[]")
    assert main(["down", "--all"]) == 0
    assert capsys.readouterr().out.splitlines() == ["bad is down", "good is down", "odd is down"]
    assert not [path for path in root.iterdir() if path.is_dir()]


@pytest.mark.parametrize("command", ["ps", "out"])
def test_a_damaged_device_hides_no_other_from_those_who_look_at_pages(
    command: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert owners(all_devices(), None if command == "ps" else [os.getpid()])[0] == []
    assert "bad/config.json is not JSON" in capsys.readouterr().err
    with pytest.raises(HostError, match="is not JSON"):
        owners([Runtime("bad")])
