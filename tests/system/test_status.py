"""``status``, ``get`` and ``set`` on a running device."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from fuseswap.cli.status import COLUMNS, DEFAULT_COLUMNS
from fuseswap.filesystem.parameters import PARAMETERS
from fuseswap.filesystem.statistics import STATISTICS
from fuseswap.units import MIB
from tests.support.mounted_devices import (
    TRANSPORTS,
    TestDevice,
    call,
    device_up,
    strangers_elsewhere,
    succeed,
)


@pytest.fixture(scope="module", autouse=True)
def _strangers() -> Iterator[None]:
    with strangers_elsewhere():
        yield


@pytest.fixture(scope="module", params=TRANSPORTS)
def device(request: pytest.FixtureRequest) -> Iterator[TestDevice]:
    """Its swap is on, and nobody's: what is written to the file stays."""
    with device_up("--size", "256M", "--priority", "3", transport=request.param) as up:
        yield up


def test_json_has_everything(device: TestDevice) -> None:
    status = device.status()
    assert status["status"] == "running"
    assert status["transport"] == device.transport
    assert status["discards"] is (device.transport == "devfuse")
    assert status["resumes"] is (device.transport == "devfuse")
    assert (status["recovery"] == "none") is (device.transport == "pyfuse3")
    assert (status["loop"], status["swap_priority"]) == (device.loop, 3)
    assert status["size_bytes"] == 256 << 20
    assert {status["supervisor_pid"], status["worker_pid"]} == {
        device.info["supervisor_pid"],
        device.info["worker_pid"],
    }
    none_here = {"tier", "plugin", "mirror"}
    here = {s.name for s in STATISTICS if not none_here & set(s.labels)}
    assert {name.partition(".")[0] for name in status["stats"]} == here
    assert status["stats"]["codec_pages.lz4"] == status["stats"]["lz4_pages"]
    assert set(status["params"]) == {parameter.name for parameter in PARAMETERS}
    assert 0 < status["worker_rss_bytes"] < 256 << 20
    assert 8 * MIB < status["stats"]["mem_worker"] < status["stats"]["mem_worker_bound"]
    assert status["warnings"] == []


def test_json_of_all_is_a_list(device: TestDevice) -> None:
    assert device.name in [status["name"] for status in json.loads(succeed("status", "--json"))]


def test_the_table(device: TestDevice) -> None:
    headings, row, _, *ledger = succeed("status", device.name).splitlines()
    assert ledger[0].split()[0] == "stored"
    assert max(map(len, ledger)) <= 80
    (alone,) = succeed("status", device.name, "--noheadings").splitlines()
    assert alone.split()[0] == device.name
    assert headings.split() == list(DEFAULT_COLUMNS)
    fields = row.split()
    assert len(fields) == len(DEFAULT_COLUMNS)
    assert fields[:3] == [device.name, "running", "256M"]
    assert fields[-2:] == [device.loop, "3"]


def test_bytes_output_and_noheadings(device: TestDevice) -> None:
    columns = ("NAME", "DISKSIZE", "TRANSPORT", "LIMIT")
    chosen = ("--output", ",".join(columns).lower(), "--noheadings", "--bytes")
    (row,) = succeed("status", device.name, *chosen).splitlines()
    name, size, transport, limit = row.split()
    assert (name, size, transport) == (device.name, str(256 << 20), device.transport)
    assert limit == device.param("pool_limit_bytes")


def test_every_column_can_be_asked_for(device: TestDevice) -> None:
    for column in COLUMNS:
        (row,) = succeed(
            "status", device.name, "--noheadings", "--output", column.name
        ).splitlines()
        assert row.strip()


def test_the_ledger_adds_up(device: TestDevice) -> None:
    with open(device.swapfile, "r+b", buffering=0) as file:
        for page in range(512, 1024):
            os.pwrite(file.fileno(), os.urandom(2048) + bytes(2048), page * 4096)
    parts = []
    for line in succeed("status", device.name, "--bytes").splitlines()[3:]:
        title, number, *_ = line.split()
        if title == "memory":
            break
        parts.append(int(number))
    assert sum(parts) == int(number) > MIB
    stats = device.status()["stats"]
    assert stats["mem_used_max"] >= stats["mem_used_total"] > MIB
    assert 8 * MIB < stats["mem_fixed"] < 200 * MIB


def test_explain_in_words_and_as_json(device: TestDevice) -> None:
    with open(device.swapfile, "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), os.urandom(4096), 2048 * 4096)
    first, *lines = succeed("explain", device.name, "2048").splitlines()
    assert first == "page 2048, at 8M"
    assert "  where     in memory" in lines
    found = json.loads(succeed("explain", device.name, "--offset", "8M", "--json"))
    assert (found["page"], found["codec"], found["checksum"]) == (2048, "raw", "ok")
    for page in ("65536", "-1", "x"):
        done = call("explain", device.name, page)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_get_one_and_all(device: TestDevice) -> None:
    assert succeed("get", device.name, "compressor") == "lz4\n"
    lines = succeed("get", device.name).splitlines()
    assert [line.partition("=")[0] for line in lines] == [p.name for p in PARAMETERS]
    assert "compressor=lz4" in lines


def test_set_holds(device: TestDevice) -> None:
    succeed("set", device.name, "compressor=zstd:3", "busy_poll_us=20")
    assert (device.param("compressor"), device.param("busy_poll_us")) == ("zstd:3", "20")
    assert succeed("status", device.name, "--noheadings", "--output", "ALGORITHM") == "zstd:3\n"
    succeed("set", device.name, "compressor=lz4", "busy_poll_us=50")


def test_an_unknown_name_sets_nothing(device: TestDevice) -> None:
    done = call("set", device.name, "compressor=zstd:9", "nonsense=1")
    assert done.returncode == 1
    assert device.param("compressor") == "lz4"
