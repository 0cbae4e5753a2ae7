"""Orders and their progress: until it is done, or one line says why it is not."""

from __future__ import annotations

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
        self.values: dict[str, str] = {"recomp_algorithm": "zstd:6\n"}
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
    assert [line.strip() for line in shown.err.strip("\n").split("\r")[1:]] == [
        f"all: {n} of 3 segments" for n in (0, 2, 3)
    ]
    assert shown.err.endswith("\n")


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
