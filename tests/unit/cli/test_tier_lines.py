"""Each tier in ``status NAME`` and ``top``: a line, its rates by two looks, and the JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fuseswap.cli import main, status
from fuseswap.cli.rates import Rates
from fuseswap.cli.sampling import DeviceSnapshot, Snapshot
from fuseswap.cli.tier_lines import format_us, shown
from fuseswap.cli.tier_numbers import tiers_in
from fuseswap.cli.top_view import in_words
from fuseswap.daemon.attachment import Attachment
from fuseswap.daemon.device_files import settings_from
from fuseswap.daemon.runtime_dir import Runtime
from tests.unit.daemon.test_device_files import OLD

POLICIES = """\
tier=valkey0 priority=5 limit=none drain=N state=active volatile=Y
tier=file0 priority=-1 limit=none drain=N state=full
"""
FIRST = """\
fuseswap_journal_bytes 0
fuseswap_tier_extents{tier="valkey0"} 2048
fuseswap_tier_segments{tier="valkey0"} 1500
fuseswap_tier_pages{tier="valkey0"} 1000000
fuseswap_tier_reads_total{tier="valkey0"} 100
fuseswap_tier_written_bytes_total{tier="valkey0"} 1048576
fuseswap_tier_failed_reads_total{tier="valkey0"} 2
fuseswap_tier_failed_writes_total{tier="valkey0"} 1
fuseswap_tier_read_p50_us{tier="valkey0"} 240
fuseswap_tier_read_p99_us{tier="valkey0"} 16384
# EOF
"""
SECOND = FIRST.replace('reads_total{tier="valkey0"} 100', 'reads_total{tier="valkey0"} 600')
SECOND = SECOND.replace("} 1048576", "} 3145728").replace(
    'segments{tier="valkey0"} 1500', 'segments{tier="valkey0"} 1000'
)


class Looks:
    """What the files of a device say: ``metrics`` changes while somebody sleeps."""

    def __init__(self) -> None:
        self.metrics = FIRST
        self.now_s = 10.0

    def read(self, path: Path) -> str:
        if path.name == "metrics":
            return self.metrics
        return POLICIES if path.name == "tier_params" else "0\n"

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.metrics = SECOND

    def monotonic(self) -> float:
        return self.now_s


def standing(runtime: Runtime) -> dict[str, Any]:
    return {
        "name": runtime.name, "status": "running", "reason": None, "mountpoint": "/here",
        "size_bytes": 1 << 30, "loop": "/dev/loop0", "swap_priority": 100, "resumes": True,
        "log": [], "warnings": [], "stats": {}, "zswap": {}, "params": {}, "tiers": [],
    }  # fmt: skip


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Looks:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path))
    looks = Looks()
    monkeypatch.setattr(status, "read_file", looks.read)
    monkeypatch.setattr(status, "standing", standing)
    monkeypatch.setattr(status, "time", looks)
    runtime = Runtime("swap0")
    runtime.create(settings_from(OLD, "here"))
    given = ("tier:valkey0", 140), ("tier:lost", 141)
    runtime.note_attachments([Attachment(name, (fd,), {}) for name, fd in given])
    return looks


@pytest.mark.usefixtures("looks")
def test_status_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "swap0"]) == 0
    *_, headings, first, second, third, note = capsys.readouterr().out.splitlines()
    assert headings.split() == [
        "TIER", "STATE", "PRIO", "SIZE", "USED", "SEGS", "PAGES", "READ/s", "WRITE/s", "ERRORS",
        "P50", "P99",
    ]  # fmt: skip
    assert first.split() == [
        "valkey0", "active", "5", "2G", "1000M", "1000", "1000000", "1000", "4", "3", "240us",
        "16ms",
    ]  # fmt: skip
    assert second.split()[:3] == ["file0", "full", "-1"]
    assert third.split()[:3] == ["lost", "missing", "-"]
    assert note.startswith("tier 'valkey0' may forget pages")


@pytest.mark.usefixtures("looks")
def test_status_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "swap0", "--json"]) == 0
    first, *_, lost = json.loads(capsys.readouterr().out)["tiers"]
    assert (first["name"], first["state"], first["may_forget"]) == ("valkey0", "active", True)
    assert (first["reads_per_s"], first["writes_per_s"]) == (1000.0, 4.0)
    assert (first["read_p50_us"], first["read_p99_us"], first["errors"]) == (240, 16384, 3)
    assert (first["segments"], first["pages"], first["size_bytes"]) == (1000, 1000000, 2 << 30)
    assert (lost["state"], lost["priority"], lost["reads_per_s"]) == ("missing", None, None)


def test_nobody_waits_for_rates_that_are_not_shown(
    looks: Looks, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["status"], ["status", "swap0", "--output", "DATA"]):
        assert main(arguments) == 0
        assert "valkey0" not in capsys.readouterr().out
    assert main(["status", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["tiers"][0]["reads_per_s"] is None
    Runtime("swap0").note_attachments([])
    assert main(["status", "swap0"]) == 0
    assert looks.metrics is FIRST, "nobody slept"


def test_a_worker_that_began_again_has_no_negative_rate() -> None:
    (one,) = tiers_in("", {"tier_extents.a": 4, "tier_reads.a": 8}, ["a"])
    found = Rates(2.0, {"tier_reads.a": 4.0, "tier_written_bytes.b": 9.0}, anew=True)
    assert one.with_rates(found).reads_per_s == 4.0
    assert one.with_rates(found).writes_per_s is None
    assert one.with_rates(None) == one


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(0, "-"), (1, "1us"), (9999, "9999us"), (10000, "10ms"), (2_000_000, "2000ms"),
     (9_999_400, "9999ms"), (16_777_216, "17s")],
)  # fmt: skip
def test_times_are_short(microseconds: int, text: str) -> None:
    assert format_us(microseconds) == text


def test_top_shows_them_in_80_columns() -> None:
    stats = {f"tier_{name}.{tier}": 1 << 24 for name in ("extents", "segments", "pages", "reads",
             "failed_writes", "read_p50_us") for tier in ("a", "t" * 31)}  # fmt: skip
    per_second = {f"tier_reads.{'t' * 31}": 99999.0, "tier_reads.a": 0.0}
    known = standing(Runtime("s" * 32)) | {"stats": stats, "restarts": 0}
    device = DeviceSnapshot(known, Rates(1.0, per_second, anew=False), None, None)
    lines = in_words(Snapshot(1e9, None, {}, None, [device]), 2.0, "", 80)
    at = next(at for at, line in enumerate(lines) if line.startswith("TIER"))
    assert max(map(len, lines)) <= 80
    assert [line.split()[5] for line in lines[at : at + 3]] == ["READ/s", "0", "99999"]
    assert lines[at + 1].split()[0][:5] == "sssss"


def test_top_of_a_device_without_tiers_has_no_such_table() -> None:
    device = DeviceSnapshot(standing(Runtime("swap0")) | {"restarts": 0}, None, None, None)
    lines = in_words(Snapshot(1e9, None, {}, None, [device]), 2.0, "", 80)
    assert not any(line.startswith("TIER ") for line in lines)


def test_sizes_in_bytes() -> None:
    (one,) = tiers_in("", {"tier_extents.a": 4, "tier_segments.a": 1}, ["a"])
    assert shown(one.to_json(), ["SIZE", "USED"], in_bytes=True) == ["4194304", "1048576"]
