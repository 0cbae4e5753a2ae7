"""The last hour of `top --record`: what is written is read again, and the file stays small."""

from __future__ import annotations

import json
import os
import resource
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fuseswap.cli import recording
from fuseswap.cli.rates import Rates
from fuseswap.cli.recording import HEADER, Recording, read_recording
from fuseswap.cli.sampling import DeviceSnapshot, Snapshot
from fuseswap.errors import HostError, InvalidArgument


def snapshot(at: float, stats: dict[str, int] | None = None, **rates: float) -> Snapshot:
    status: dict[str, Any] = {"name": "swap0", "stats": stats or {}}
    changes = Rates(1.0, rates, anew=False) if rates else None
    device = DeviceSnapshot(status, changes, 12.34, None)
    return Snapshot(at, 1.5, {}, None, [device])


def record(path: Path, *snapshots: Snapshot) -> None:
    with closing(Recording(str(path))) as found:
        for one in snapshots:
            found.add(one)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "hour"
    record(path, snapshot(5.0, {"orig_data_size": 8192, "bd_count": 3}, loads=2.5, bd_writes=2))
    (moment,) = read_recording(str(path))
    assert moment.time == 5.0
    assert moment.host == {"pressure_percent": 1.5}
    assert moment.devices == {
        "swap0": {
            "stored_bytes": 8192,
            "elsewhere_bytes": 3 * 4096,
            "loads_per_s": 2.5,
            "written_bytes_per_s": 2 * 4096,
            "cpu_percent": 12.3,
        }
    }


def test_every_line_is_an_object_of_json(tmp_path: Path) -> None:
    record(tmp_path / "hour", snapshot(1.0), snapshot(2.0))
    lines = (tmp_path / "hour").read_text().splitlines()
    assert [json.loads(line).get("time") for line in lines] == [None, 1.0, 2.0]


def test_a_sum_is_of_the_devices_that_have_the_number(tmp_path: Path) -> None:
    record(tmp_path / "hour", snapshot(1.0, loads=4))
    (moment,) = read_recording(str(tmp_path / "hour"))
    assert moment.total(["swap0", "swap0", "gone"], "loads_per_s") == 8
    assert moment.total(["swap0"], "stores_per_s") is None
    assert moment.total([], "loads_per_s") is None


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "hour"
    record(path, snapshot(1.0))
    record(path, snapshot(2.0))
    assert [moment.time for moment in read_recording(str(path))] == [1.0, 2.0]
    assert path.read_text().count(HEADER) == 1


def test_a_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "hour"
    record(path, snapshot(1.0), snapshot(2.0))
    path.write_text(path.read_text()[:-20])
    record(path, snapshot(3.0))
    assert [moment.time for moment in read_recording(str(path))] == [1.0, 3.0]


def test_an_hour_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "hour"
    record(path, *(snapshot(float(at)) for at in range(0, 7200, 100)))
    found = read_recording(str(path))
    assert found[-1].time == 7100
    assert found[0].time == 7100 - 3600


def test_the_file_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_LINES", 20)
    monkeypatch.setattr(recording, "KEPT_LINES", 10)
    path = tmp_path / "hour"
    with closing(Recording(str(path))) as found:
        for at in range(1000):
            found.add(snapshot(float(at)))
            lines = path.read_text().splitlines()
            assert len(lines) <= 21
            assert lines[0] + "\n" == HEADER
            newest = [json.loads(line)["time"] for line in lines[1:]]
            assert newest == list(range(at - len(newest) + 1, at + 1))
            assert len(newest) >= min(at + 1, 10)


def test_nor_does_it_by_many_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_BYTES", 4000)
    path = tmp_path / "hour"
    with closing(Recording(str(path))) as found:
        for at in range(500):
            found.add(snapshot(float(at)))
            assert path.stat().st_size <= 4000
    assert read_recording(str(path))[-1].time == 499


def test_a_shortening_that_was_cut_loses_nothing_that_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer half stands before the older lines, and again behind them."""
    path = tmp_path / "hour"
    record(path, *(snapshot(float(at)) for at in range(20)))
    with monkeypatch.context() as patched:
        patched.setattr(recording, "MOST_LINES", 21)
        patched.setattr(recording, "KEPT_LINES", 10)
        patched.setattr(os, "ftruncate", lambda fd, size: None)
        record(path, snapshot(20.0))
    times = [moment.time for moment in read_recording(str(path))]
    assert times == sorted(set(times))
    assert set(range(11, 21)) <= set(times)


@pytest.mark.parametrize("content", [b"something else\n", b"\0" * 100, HEADER[:-2].encode()])
def test_another_file_is_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match="letter is no recording"):
        Recording(str(path))
    with pytest.raises(InvalidArgument, match="letter is no recording"):
        read_recording(str(path))
    assert path.read_bytes() == content


def test_two_can_not_record_to_one_file(tmp_path: Path) -> None:
    path = str(tmp_path / "hour")
    with closing(Recording(path)), pytest.raises(InvalidArgument, match="another"):
        Recording(path)
    Recording(path).close()


def test_what_can_not_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot record to .*: No such file or directory"):
        Recording(str(tmp_path / "none" / "hour"))
    with pytest.raises(HostError, match=r"cannot read .*: No such file or directory"):
        read_recording(str(tmp_path / "none"))
    with pytest.raises(InvalidArgument, match="/dev/null is no file"):
        Recording("/dev/null")


def test_a_file_that_takes_no_more_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "hour"
    with closing(Recording(str(path))) as found:
        found.add(snapshot(1.0))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
        try:
            with pytest.raises(HostError, match=r"cannot record to .*: File too large"):
                found.add(snapshot(2.0))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [moment.time for moment in read_recording(str(path))] == [1.0]


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[]",
        "7",
        '{"time":"x","host":{},"devices":{}}',
        '{"time":1e400,"host":{},"devices":{}}',
        '{"time":NaN,"host":{},"devices":{}}',
        '{"time":1,"host":[],"devices":{}}',
        '{"time":1,"host":{},"devices":[]}',
        '{"time":1,"host":{},"devices":{"swap0":7}}',
        "[" * 100000,
    ],
)
def test_lines_that_nobody_writes_are_left_out(tmp_path: Path, line: str) -> None:
    path = tmp_path / "hour"
    path.write_text(f"{HEADER}{line}\n")
    assert read_recording(str(path)) == []


def test_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "hour"
    numbers = '{"a":NaN,"b":1e400,"c":"x","d":-1,"e":null,"f":3,"g":1e300}'
    path.write_text(f'{HEADER}{{"time":1,"host":{{}},"devices":{{"swap0":{numbers}}}}}\n')
    (moment,) = read_recording(str(path))
    assert moment.devices == {"swap0": {"f": 3.0}}
