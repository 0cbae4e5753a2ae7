"""What all commands have in common: one line of complaint, exit codes, and where output goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fuseswap.cli import check, demo, main, restart, up
from fuseswap.cli.commands import build_parser
from fuseswap.daemon import bring_up, take_down
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.linux import private_files
from fuseswap.linux.ending import Undo

COMMANDS = (
    "up", "down", "restart", "status", "top", "ps", "report", "out", "in", "explain", "get", "set",
    "tier", "writeback", "recompress", "scrub", "backend", "shrink", "trace", "simulate", "config",
    "check", "estimate", "demo", "run", "plugins", "install-host", "mount",
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
        assert complaint(capsys, "status") == (
            2,
            "fuseswap: standard output: No space left on device",
        )


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
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert r"some /nowhere/\x1b[2J\nfake" in captured.out
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
        (("restart", "--all", "some"), "not both"),
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

    def bring(runtime: Runtime, wanted: Any, undo: Undo, **more: Any) -> None:
        undo.add(lambda: done.append("down"))
        done.append("up")

    monkeypatch.setattr(demo, "require_root", lambda what: None)
    monkeypatch.setattr(bring_up, "up", bring)
    monkeypatch.setattr(demo, "_demonstrate", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
    assert main(["demo"]) == 143
    assert done == ["up", "down"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_up_that_is_interrupted_is_undone_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    done: list[str] = []

    def bring(runtime: Runtime, wanted: Any, undo: Undo, **more: Any) -> None:
        undo.add(lambda: done.append("undone"))
        os.kill(os.getpid(), number)

    monkeypatch.setattr(up, "require_root", lambda what: None)
    monkeypatch.setattr(bring_up, "up", bring)
    code, said = complaint(capsys, "up", "some")
    assert (code, done) == (128 + number, ["undone"])
    assert said == "fuseswap: 'up' was interrupted: some is as it was before"


def test_ctrl_c_while_the_commands_are_read_in() -> None:
    code = """if True:
        import builtins, fuseswap.cli
        real = builtins.__import__
        def interrupted(name, *more):
            if name == "fuseswap.cli.commands" or "commands" in ((more[2:3] or [()])[0] or ()):
                raise KeyboardInterrupt
            return real(name, *more)
        builtins.__import__ = interrupted
        raise SystemExit(fuseswap.cli.main(["status"]))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "fuseswap: which command? up, down, restart,"),
        (("tier",), "fuseswap tier: which action? list, add,"),
        (("backend",), "fuseswap backend: which action? list, add, remove"),
        (("statsu",), "there is no 'statsu'; did you mean 'status'?"),
        (("nonsense",), "there is no 'nonsense'; there are: up, down,"),
        (("tier", "lst"), "there is no 'lst'; did you mean 'list'?"),
        (("up", "--siez", "1G"), "fuseswap up: '--siez' is unknown here; did you mean '--size'?"),
        (("up", "--backing-layout", "pakced"), "did you mean 'packed'?"),
        (("set", "some", "compresor=lz4"), "'compresor'; did you mean 'compressor'?"),
        (("get", "some", "compresor"), "'compresor'; did you mean 'compressor'?"),
        (("status", "--output", "name,sate"), "'SATE'; did you mean 'STATE'?"),
        (("up", "--tier", "fiel:/x"), "'fiel'; did you mean 'file'?"),
        (("mount", "none", "/tmp", "-o", "siez=1G"), "did you mean 'size'?"),
    ],
)
def test_a_typing_error_is_told_what_was_meant(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    code, said = complaint(capsys, *arguments)
    assert code == 1
    assert says in said


def test_the_name_of_a_device_that_was_meant(
    runtime_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runtime_root / "swap0").mkdir(0o700)
    (runtime_root / "swap0" / "config.json").write_text("{}")
    expected = (2, "fuseswap: there is no device 'swp0'; did you mean 'swap0'?")
    assert complaint(capsys, "get", "swp0") == expected


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a" * 106, "it has 106 characters, and may have 32"),
        ("", "it is empty"),
        ("-a", "it has to begin with a letter or a digit"),
        ("a b", "use letters"),
        ("aé", "use letters"),
    ],
)
@pytest.mark.parametrize("command", ["status", "down", "top", "get", "up"])
def test_a_name_is_refused_for_what_is_wrong_with_it(
    capsys: pytest.CaptureFixture[str], command: str, name: str, says: str
) -> None:
    """An empty one is none, too: a variable that was not set must not name every device."""
    code, said = complaint(capsys, command, "--", name)
    assert code == 1
    assert said.endswith(f"is not a name; {says}") or says in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--size", "٢G"),
        ("up", "--pool-limit", "٢٥%"),
        ("up", "--priority", "٣"),
        ("up", "--watchdog", "٣"),
        ("up", "--tier", "file:/x,priority=٣"),
        ("writeback", "--idle", "٣"),
        ("recompress", "--idle", "٣"),
        ("demo", "--seconds", "٣"),
        ("demo", "--memory", "٣٠٠M"),
        ("top", "--interval", "٣"),
        ("top", "--count", "٣"),
        ("status", "--watch", "--interval", "٣"),
        ("tier", "gc", "--older", "٦٠"),
    ],
)
def test_digits_are_those_that_all_can_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(Runtime, "mountpoint", lambda runtime: "/nowhere")
    code, said = complaint(capsys, *arguments)
    assert code == 1
    assert "٣" in said or "٢" in said or "٦" in said


def test_a_directory_that_can_not_be_written_to_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(private_files, "make_directory", refuse)
    code, said = complaint(capsys, "down")
    assert code == 2
    assert "Read-only file system; set FUSESWAP_RUNTIME_DIR to" in said


@pytest.mark.parametrize("find", [check._fuse, check._loop])
def test_check_finds_a_node_that_is_another_device(
    monkeypatch: pytest.MonkeyPatch, find: Callable[[], check.Finding]
) -> None:
    real_open, real_stat = os.open, os.stat
    monkeypatch.setattr(os, "open", lambda path, flags: real_open("/dev/null", flags))
    monkeypatch.setattr(os, "stat", lambda path: real_stat("/dev/null"))
    finding = find()
    assert (finding.good, finding.needed) == (False, True)
    assert "is another device; rm -f /dev/" in finding.text


def test_check_says_what_to_do_about_dev_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    finding = check._fuse()
    assert (finding.good, finding.needed) == (False, True)
    assert "root" in finding.text
    assert "module" not in finding.text
