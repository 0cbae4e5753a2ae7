"""What all commands have in common: one line of complaint, exit codes, and where output goes."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fuseswap.cli import build_parser, check, demo, main, restart
from fuseswap.daemon import bring_up, take_down
from fuseswap.daemon.runtime_dir import Runtime

COMMANDS = (
    "up", "down", "restart", "status", "top", "ps", "out", "in", "explain", "get", "set", "tier",
    "writeback", "recompress", "scrub", "backend", "shrink", "config", "check", "demo", "run",
    "plugins", "install-host", "mount",
)  # fmt: skip


@pytest.fixture(autouse=True)
def runtime_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@contextmanager
def no_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard output is a pipe whose reader has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        yield


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code, and what is said, which has to be one line."""
    try:
        code = main(arguments)
    except SystemExit as exc:
        code = int(exc.code or 0)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith("\n")
    return code, said.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_the_command_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    usage, said, _ = shown.split("\n\n", 2)
    assert usage.startswith(f"usage: fuseswap {command} ")
    assert said.strip().endswith((".", "ends."))
    assert max(map(len, said.splitlines())) <= 80
    assert shown.isascii()  # there are locales that can't print anything else


def test_all_commands_are_listed() -> None:
    listed = [
        line.split()[0]
        for line in build_parser().format_help().splitlines()
        if line[:4] == " " * 4 and line[4] != " "
    ]
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("top", "--batch")])
def test_a_reader_that_has_seen_enough(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    with no_reader(monkeypatch):
        assert main(arguments) == 0
    assert capsys.readouterr().err == ""


def test_a_reader_that_has_seen_enough_of_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with no_reader(monkeypatch):
        assert main(["set", "--help"]) == 0
    assert capsys.readouterr().err == ""


def test_output_that_does_not_fit_is_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert complaint(capsys, "status") == (2, "fuseswap: No space left on device")


def test_another_broken_pipe_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(runtime: Any) -> str:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(restart, "restart", fail)
    reader, writer = os.pipe()
    with open(reader), open(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert complaint(capsys, "restart") == (2, "fuseswap: Broken pipe")


def test_without_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["status"]) == 0
    assert main(["top", "--batch"]) == 0


@pytest.mark.parametrize(
    ("name", "shown"), [("a\nb", r"'a\nb'"), ("\x1b[2J", r"'\x1b[2J'"), ("\udcff", r"'\udcff'")]
)
def test_a_name_that_is_no_text_is_one_line(
    capsys: pytest.CaptureFixture[str], name: str, shown: str
) -> None:
    code, said = complaint(capsys, "status", name)
    assert code == 1
    assert said.startswith(f"fuseswap: {shown} is not a name")
    code, said = complaint(capsys, "status", f"--x{name}")
    assert code == 1
    assert shown.strip("'") in said


SETTINGS = {
    "size_bytes": 1 << 20,
    "transport": "devfuse",
    "geometry": {"page_count": 256, "segment_count": 18, "frame_count": 17},
    "region_bytes": {"header": 4096},
    "parameters": {"pool_limit_bytes": "8388608"},
}


def test_a_path_that_is_not_utf8_is_printed_as_it_is(
    runtime_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        **SETTINGS,
        "mountpoint": "/nowhere/\udcff",
    }
    (runtime_root / "some").mkdir()
    (runtime_root / "some" / "config.json").write_text(json.dumps(settings))
    printed = runtime_root / "printed"
    with open(printed, "w", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["status", "--output", "mountpoint", "--noheadings"]) == 0
    assert printed.read_bytes().startswith(b"/nowhere/\xff\n")


def test_nothing_that_is_printed_moves_the_cursor(
    runtime_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path, what a server said, and a line of the log, which may be of another version."""
    settings = {
        **SETTINGS,
        "mountpoint": "/nowhere/\x1b[2J\nfake",
    }
    (runtime_root / "some").mkdir()
    (runtime_root / "some" / "config.json").write_text(json.dumps(settings))
    state = {"status": "failed", "reason": "server: \x1b]0;title\x07"}
    (runtime_root / "some" / "state.json").write_text(json.dumps(state))
    (runtime_root / "some" / "log").write_bytes(b"line\r\xc2\x9b2J\n")
    assert main(["status", "some", "--output", "name,mountpoint"]) == 0
    said = capsys.readouterr().out
    assert r"some /nowhere/\x1b[2J\nfake" in said
    assert r"server: \x1b]0;title\x07" in said
    assert r"\x9b2J" in said
    assert all(line.isprintable() for line in said.splitlines())
    assert main(["status", "some", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mountpoint"] == settings["mountpoint"]


def test_an_error_of_the_system_names_the_file_and_not_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path / "file"))
    expected = (2, f"fuseswap: {tmp_path}/file: Not a directory")
    assert complaint(capsys, "down") == expected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("down", "--all", "some"), "not both"),
        (("set", "some", "compressor="), "is not PARAM=VALUE"),
        (("up", "--backing", ""), "or 'none'"),
        (("demo", "--seconds", "nan"), "0 to 86400"),
        (("demo", "--seconds", "-1"), "0 to 86400"),
        (("demo", "--seconds", "inf"), "0 to 86400"),
        (("demo", "--memory", "0"), "less than 32M"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.setattr(Runtime, "mountpoint", lambda runtime: "/nowhere")
    monkeypatch.delattr(bring_up, "up")
    monkeypatch.delattr(take_down, "down")
    code, said = complaint(capsys, *arguments)
    assert code == 1
    assert says in said


def test_a_demo_that_is_terminated_takes_its_device_down(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(demo, "require_root", lambda what: None)
    monkeypatch.setattr(bring_up, "up", lambda *args, **more: done.append("up"))
    monkeypatch.setattr(take_down, "down", lambda runtime: done.append("down"))
    monkeypatch.setattr(demo, "_demonstrate", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main(["demo"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    assert done == ["up", "down"]


def test_check_says_what_to_do_about_dev_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    finding = check._fuse()
    assert (finding.good, finding.needed) == (False, True)
    assert "root" in finding.text
    assert "module" not in finding.text
