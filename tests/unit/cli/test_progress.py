"""Orders and their progress: until it is done, or one line says why it is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fuseswap.cli import main, progress, recompress
from fuseswap.cli.progress import STUCK_AFTER_S, order
from fuseswap.errors import HostError


class Host:
    """A device whose parameter files say what a test wants, and a clock that sleep moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.values: dict[str, str] = {
            "recomp_algorithm": "zstd:6\n",
            "recompressed_pages": "7\n",
            "recompressed_bytes_before": "8192\n",
            "recompressed_bytes_after": "4096\n",
        }
        self.states: Iterator[str] = iter(())
        self.given: list[tuple[str, str]] = []
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        for module in (progress, recompress):
            monkeypatch.setattr(module, "directory_of", lambda name: Path("/params"))
            monkeypatch.setattr(module, "read_file", self.read)
        monkeypatch.setattr(progress, "set_value", self.set)
        monkeypatch.setattr(progress, "time", clock)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def read(self, path: Path) -> str:
        if path.name in self.values:
            return self.values[path.name]
        state = next(self.states, None)
        if state is None:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return state + "\n"

    def set(self, path: Path, value: str) -> None:
        self.given.append((path.name, value))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_it_returns_when_it_is_done(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.states = iter(["all: 0 of 3 segments", "all: 2 of 3 segments", "all: 3 of 3 segments"])
    order("swap0", "recompress", "all", "stuck")
    assert host.given == [("recompress", "all")]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "all: 0 of 3 segments\nall: 3 of 3 segments\n"


def test_a_log_gets_a_line_now_and_then(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.states = iter([f"all: {n} of 400 segments" for n in range(401)])  # 80 s
    order("swap0", "recompress", "all", "stuck")
    lines = capsys.readouterr().err.splitlines()
    done = [int(line.split()[1]) for line in lines]
    assert done == [0, pytest.approx(150, abs=2), pytest.approx(300, abs=2), 400]


def test_a_terminal_gets_one_line_with_a_bar(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "is_terminal", lambda file: True)
    host.states = iter(["all: 0 of 3 segments", "all: 2 of 3 segments", "all: 3 of 3 segments"])
    order("swap0", "recompress", "all", "stuck")
    frames = capsys.readouterr().err.split("\r")[1:]
    assert [frame.strip() for frame in frames] == [
        f"[{'#' * filled}{'.' * (30 - filled)}] all: {n} of 3 segments"
        for filled, n in ((0, 0), (20, 2), (30, 3))
    ]
    assert frames[-1].endswith("\n")


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_the_line_fits_the_terminal_and_leaves_nothing_of_the_one_before(
    host: Host,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
) -> None:
    monkeypatch.setattr(progress, "is_terminal", lambda file: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    with progress.progress() as shown:
        shown.show("x" * 100)
        shown.show("short")
    first, second = capsys.readouterr().err.rstrip("\n").split("\r")[1:]
    assert first == "x" * (columns - 1)
    assert second == "short".ljust(columns - 1)


def test_the_last_state_is_there_also_where_it_failed(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.states = iter(["all: 1 of 4 segments", "all: 2 of 4 segments"])
    with pytest.raises(HostError, match="gone away"):
        order("swap0", "recompress", "all", "stuck")
    assert capsys.readouterr().err.splitlines()[-1] == "all: 2 of 4 segments"


def test_where_there_is_nothing_to_do_it_returns_at_once(host: Host) -> None:
    host.states = iter(["idle"])
    order("swap0", "recompress", "idle=60", "stuck")
    assert host.now == 0


def test_it_waits_as_long_as_it_goes_on(host: Host) -> None:
    slow = [f"all: {n} of 4 segments" for n in range(5) for _ in range(40)]  # 8 s each
    host.states = iter(slow)
    order("swap0", "recompress", "all", "stuck")
    assert host.now > 3 * STUCK_AFTER_S


def test_where_nothing_moves_it_says_why(host: Host) -> None:
    host.states = iter(["all: 1 of 4 segments"] * 1000)
    with pytest.raises(HostError, match=r"^the pool is full$"):
        order("swap0", "recompress", "all", "the pool is full")
    assert STUCK_AFTER_S < host.now < STUCK_AFTER_S + 1


def test_a_device_that_goes_away_meanwhile(host: Host) -> None:
    host.states = iter(["all: 1 of 4 segments"])
    with pytest.raises(HostError, match=r"^swap0 has gone away meanwhile: No such file"):
        order("swap0", "recompress", "all", "stuck")


def test_a_worker_that_is_replaced_has_forgotten_the_order(host: Host) -> None:
    host.states = iter(["all: 1 of 4 segments", "idle"])
    with pytest.raises(HostError, match="give it again"):
        order("swap0", "recompress", "all", "stuck")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [([], "all"), (["--all"], "all"), (["--idle", "600"], "idle=600"), (["x"], "all")],
)
def test_the_command_asks_for_it(host: Host, arguments: list[str], wanted: str) -> None:
    host.states = iter(["all: 1 of 1 segments"])
    assert main(["recompress", *arguments]) == 0
    assert host.given == [("recompress", wanted)]


def test_the_command_says_what_it_did(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.states = iter(["all: 1 of 1 segments"])
    assert main(["recompress"]) == 0
    assert capsys.readouterr().out == "swap0: 0 pages recompressed, 0B are 0B now\n"
    host.states = iter(["all: 1 of 1 segments"])
    assert main(["recompress", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": "swap0", "pages": 0, "before_bytes": 0, "after_bytes": 0
    }  # fmt: skip


def test_the_command_needs_a_recompressor(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.values["recomp_algorithm"] = "none\n"
    assert main(["recompress", "cold"]) == 1
    assert host.given == []
    (line,) = capsys.readouterr().err.splitlines()
    assert "fuseswap set cold recomp_algorithm=" in line


def test_the_command_says_where_it_does_not_go_on(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.states = iter(["all: 1 of 4 segments"] * 1000)
    assert main(["recompress"]) == 2
    assert "is the pool full" in capsys.readouterr().err.splitlines()[-1]


def test_all_and_idle_exclude_each_other(host: Host) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["recompress", "--all", "--idle", "5"])
    assert ended.value.code == 1
    assert host.given == []
