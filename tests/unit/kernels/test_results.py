"""Results are kept a line each, and compared with a plain swap file under the same load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels import results
from tests.kernels.scenario import parse
from tests.kernels.verdict import Verdict


def record(name: str, seconds: float | None, *why: str, load: int = 416) -> results.Record:
    verdict = Verdict(scenario=name, why=list(why), seconds=seconds)
    return {**verdict.as_json(), "source": parse(name).swap, "load": {"hog_mib": load}}


def test_records_come_back_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUSESWAP_KERNELS", str(tmp_path / "new"))
    assert results.read(results.path()) == []
    first, second = record("6.1-384-c", 70), record("6.1-384-c", None, "silent")
    results.append(first)
    results.append(second)
    assert results.read(results.path()) == [first, second]


def test_the_median_of_passed_controls_counts() -> None:
    controls = [record("6.1-384-c-file", seconds) for seconds in (90, 50, 40)]
    controls.append(record("6.1-384-c-file", 1, "1 bad pages"))
    controls.append(record("6.1-384-c-file", 2, load=100))
    controls.append(record("6.12-384-c-file", 3))
    assert results.file_seconds(controls, record("6.1-384-c-packed-kill.both", 70)) == 50


def test_without_a_control_there_is_no_ratio() -> None:
    assert results.file_seconds([], record("6.1-384-c", 70)) is None


def test_the_table_says_what_was_wrong() -> None:
    records = [
        record("6.1-384-c-file", 50),
        record("6.1-384-c", 75),
        record("6.1-384-c", None, "the guest was silent", "no result"),
    ]
    header, _, passed, failed = results.table(records, records).splitlines()
    assert header.split()[:3] == ["scenario", "source", "passed"]
    assert passed.split()[:5] == ["6.1-384-c", "fuseswap", "yes", "75", "1.50"]
    assert failed.split()[2:5] == ["NO", "-", "-"]
    assert failed.endswith("the guest was silent; no result")
