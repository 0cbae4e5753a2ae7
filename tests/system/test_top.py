"""``fuseswap top`` on real devices: drawn, printed, and as JSON."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from fuseswap.cli.top_view import COLUMNS
from fuseswap.linux.syscalls import punch_hole
from fuseswap.units import MIB
from tests.support.mounted_devices import (
    TestDevice,
    call,
    device_up,
    fuseswap_command,
    run,
    succeed,
    worker_of,
)
from tests.support.pseudoterminals import LEFT, Terminal, terminal

pytestmark = pytest.mark.no_swap

QUICK = ("--interval", "0.2")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestDevice]:
    backing = str(tmp_path_factory.mktemp("tier") / "backing")
    with device_up(
        "--size", "128M", "--pool-limit", "16M", "--backing", backing, "--no-swapon"
    ) as up:
        yield up


@pytest.fixture
def drawn(device: TestDevice) -> Iterator[Terminal]:
    environment = {**os.environ, "TERM": "xterm"}
    with terminal(fuseswap_command("top", *QUICK), env=environment) as found:
        wait_for(found, device.name)
        assert found.modes() != found.modes_before
        yield found


def wait_for(found: Terminal, text: str) -> None:
    found.read_until(text, lambda: any(text in line for line in found.shown()))


def assert_restored(found: Terminal) -> None:
    assert found.modes() == found.modes_before
    assert LEFT in found.printed
    assert found.shows_cursor()


def objects(process: Popen[str]) -> Iterator[dict[str, Any]]:
    """The one device, line by line."""
    assert process.stdout is not None
    for line in process.stdout:
        (found,) = json.loads(line)["devices"]
        yield found


def load(device: TestDevice, mib: int) -> None:
    """More than the pool may hold, which does not compress; read, and freed again."""
    with open(device.swapfile, "r+b", buffering=0) as file:
        for at in range(mib):
            os.pwrite(file.fileno(), os.urandom(MIB), at * MIB)
        for at in range(mib):
            os.pread(file.fileno(), MIB, at * MIB)
        punch_hole(file.fileno(), 0, mib * MIB)


def test_rates_under_load_add_up_to_the_counters(device: TestDevice) -> None:
    busy = {"loads", "succ_stores", "invalidates", "bd_writes", "bd_reads", "tier_loads"}
    command = fuseswap_command("top", device.name, "--json", *QUICK)
    counted = dict.fromkeys(busy, 0.0)
    with Popen(command, stdout=PIPE, text=True) as process:
        lines = objects(process)
        first = next(lines)
        load(device, 48)
        worker_percent = 0.0
        for last in lines:
            for name in busy:
                counted[name] += last["rates"]["per_second"][name] * last["rates"]["seconds"]
            worker_percent = max(worker_percent, last["worker_cpu_percent"])
            if last["stats"]["invalidates"] - first["stats"]["invalidates"] >= 48 * 256:
                break
        process.terminate()
    for name in busy:
        grown = last["stats"][name] - first["stats"][name]
        assert grown > 0, name
        assert counted[name] == pytest.approx(grown, rel=0.02), name  # rates are rounded
    assert worker_percent > 0


def test_blocks_of_80_columns(device: TestDevice) -> None:
    printed = succeed("top", device.name, "--count", "2", *QUICK)
    blocks = printed.removesuffix("\n\n").split("\n\n")
    assert len(blocks) == 8  # a line and three tables, twice
    assert max(map(len, printed.splitlines())) <= 80
    rows = [block.splitlines() for block in blocks if block.startswith("NAME")]
    held, done = rows[:2]
    assert [*held[0].split(), *done[0].split()[1:]] == [column.name for column in COLUMNS]
    assert (held[1].split()[0], held[1].split()[1]) == (device.name, "running")
    assert len(done[1].split()) == len(done[0].split())


def test_a_worker_that_was_replaced_is_said() -> None:
    with device_up("--size", "64M", "--no-swapon") as device:
        command = fuseswap_command("top", device.name, "--json", *QUICK)
        with Popen(command, stdout=PIPE, text=True) as process:
            lines = objects(process)
            assert next(lines)["rates"]["anew"] is False
            os.kill(device.info["worker_pid"], signal.SIGKILL)
            assert any(found["rates"] and found["rates"]["anew"] for found in lines)
            assert any(found["restarts"] == 1 for found in lines)
            process.terminate()


def test_a_silent_device_is_said_and_asked_once() -> None:
    with device_up("--size", "64M", "--no-swapon", "--watchdog", "0") as device:
        worker = worker_of(device.name)
        os.kill(worker, signal.SIGSTOP)
        try:
            command = fuseswap_command("top", device.name, "--json", *QUICK)
            with Popen(command, stdout=PIPE, text=True) as process:
                lines = objects(process)
                for _ in range(5):
                    found = next(lines)
                    assert (found["status"], found["stats"]) == ("silent", {})
                    assert "no answer" in found["reason"]
                children = f"/proc/{process.pid}/task/{process.pid}/children"
                assert len(Path(children).read_text().split()) == 1
                os.kill(worker, signal.SIGCONT)
                assert any(found["status"] == "running" for found in lines)
                process.terminate()
        finally:
            os.kill(worker, signal.SIGCONT)


def test_who_has_seen_enough(device: TestDevice) -> None:
    with Popen(
        fuseswap_command("top", "--batch", *QUICK), stdout=PIPE, stderr=PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_without_devices_it_ends_as_status_does(tmp_path: Path) -> None:
    environment = {**os.environ, "FUSESWAP_RUNTIME_DIR": str(tmp_path)}
    for options in (("--batch",), ("--json",), ()):
        done = run(fuseswap_command("top", *options), env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        if "--json" in options:
            assert json.loads(done.stdout)["devices"] == []
        else:
            assert call("status", env=environment).stdout in done.stdout


def test_q_ends_and_the_terminal_is_as_it_was(drawn: Terminal) -> None:
    drawn.type(b"q")
    assert drawn.wait_for_end() == 0
    assert_restored(drawn)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_as_it_ends_others(
    drawn: Terminal, number: signal.Signals, code: int
) -> None:
    drawn.send(number)
    assert drawn.wait_for_end() == code
    assert_restored(drawn)


def test_one_table_where_there_is_room(drawn: Terminal) -> None:
    def tables() -> int:
        return sum(line.startswith("NAME") for line in drawn.shown())

    drawn.read_until("two tables", lambda: tables() == 2)
    drawn.resize(30, 200)
    drawn.read_until("one table", lambda: tables() == 1)


def test_devices_come_and_go(drawn: Terminal) -> None:
    with device_up("--size", "64M", "--no-swapon") as other:
        wait_for(drawn, other.name)
    drawn.read_until(
        "the other to go",
        lambda: not any(other.name in line for line in drawn.shown()),
    )


@pytest.mark.parametrize(
    ("name", "says"), [("absent", "no device 'absent' yet"), (None, "no devices; try")]
)
def test_it_waits_for_a_device_that_is_not_there(
    tmp_path: Path, name: str | None, says: str
) -> None:
    environment = {**os.environ, "TERM": "xterm", "FUSESWAP_RUNTIME_DIR": str(tmp_path)}
    command = fuseswap_command("top", *QUICK, *([name] if name else []))
    with terminal(command, env=environment) as found:
        wait_for(found, says)
        found.printed = b""
        found.read_until("another frame", lambda: says.encode() in found.printed)
        found.type(b"q")
        assert found.wait_for_end() == 0
