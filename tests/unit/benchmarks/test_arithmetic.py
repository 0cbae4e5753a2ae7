"""The benchmark's arithmetic: medians, ratios, targets, fio's JSON, the order of rounds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from fuseswap.errors import HostError
from fuseswap.units import MIB
from tests.benchmarks import fio, report
from tests.benchmarks.io_run import PEERS, TARGETS
from tests.benchmarks.results import Measurement, Sense, SuiteResult, Target, medians, ratios
from tests.benchmarks.suite import interleaved
from tests.benchmarks.suites import all_suites


def make_result(measurements: Sequence[Measurement], targets: Sequence[Target] = ()) -> SuiteResult:
    return SuiteResult(
        name="io",
        baseline="fuseswap",
        compared=("iops",),
        shown=("iops",),
        peers={"fuseswap": "ours", "zram": "theirs"},
        settings={"rounds": 3},
        notes=("a note",),
        commands=(("fio", "--name=x"),),
        targets=targets,
        measurements=measurements,
    )


def rounds_of(peer: str, *iops: float, job: str = "randread") -> list[Measurement]:
    return [Measurement(job, peer, at, {"iops": value}) for at, value in enumerate(iops)]


def fio_output(**changes: Any) -> str:
    idle = {"total_ios": 0, "iops": 0.0, "bw_bytes": 0, "clat_ns": {}, "lat_ns": {}}
    busy = {
        "total_ios": 1000,
        "iops": 1234.5,
        "bw_bytes": 5 * MIB,
        "lat_ns": {"mean": 22000.0},
        "clat_ns": {
            "mean": 20000.0,
            "max": 700000,
            "percentile": {"50.000000": 18000, "99.000000": 90000, "99.900000": 250000},
        },
    }
    job = {"jobname": "x", "error": 0, "read": idle, "write": busy, **changes}
    return json.dumps({"fio version": "fio-3.33", "jobs": [job]})


def test_median_is_of_the_rounds_by_job_and_peer() -> None:
    found = medians(
        rounds_of("zram", 1, 100, 3) + rounds_of("zram", 8, 4, job="write") + rounds_of("x", 5)
    )
    assert found == {
        ("randread", "zram"): {"iops": 3},
        ("write", "zram"): {"iops": 6},
        ("randread", "x"): {"iops": 5},
    }


def test_ratio_is_of_the_medians_and_its_spread_of_the_single_rounds() -> None:
    result = make_result(rounds_of("fuseswap", 10, 20, 60) + rounds_of("zram", 40, 40, 30))
    [ratio] = ratios(result)
    assert (ratio.job, ratio.metric, ratio.peer) == ("randread", "iops", "zram")
    assert ratio.ratio == 20 / 40
    assert (ratio.lowest, ratio.highest) == (10 / 40, 60 / 30)
    assert ratio.is_met is None


def test_no_ratio_without_the_baseline() -> None:
    assert ratios(make_result(rounds_of("zram", 1, 2))) == []


@pytest.mark.parametrize(
    ("sense", "bound", "met"),
    [
        (Sense.AT_LEAST, 0.5, True),
        (Sense.AT_LEAST, 0.51, False),
        (Sense.AT_MOST, 0.5, True),
        (Sense.AT_MOST, 0.49, False),
    ],
)
def test_a_target_is_met_on_its_side_of_the_bound(sense: Sense, bound: float, met: bool) -> None:
    target = Target("randread", "iops", "zram", sense, bound)
    result = make_result(rounds_of("fuseswap", 20) + rounds_of("zram", 40), [target])
    [ratio] = ratios(result)
    assert ratio.is_met is met
    line = report.ratio_table([ratio], "fuseswap").splitlines()[1].split()
    assert line[-3:] == [sense.value, f"{bound:g}", "yes" if met else "NO"]


def test_targets_that_were_not_measured_are_counted() -> None:
    targets = [Target("randread", "iops", peer, Sense.AT_LEAST, 0.1) for peer in ("zram", "x")]
    result = make_result(rounds_of("fuseswap", 20) + rounds_of("zram", 40), targets)
    assert report.summary([result]) == "targets: 1 met, 0 not met, 1 not measured"


def test_every_target_names_a_job_and_a_peer_there_is() -> None:
    assert {target.job for target in TARGETS} <= {job.name for job in fio.JOBS}
    assert {target.peer for target in TARGETS} <= set(PEERS)


def test_json_holds_every_measurement_and_the_judgement() -> None:
    target = Target("randread", "iops", "zram", Sense.AT_MOST, 0.65)
    result = make_result(rounds_of("fuseswap", 20) + rounds_of("zram", 40), [target])
    text = json.dumps(report.as_json([result], {"cpu_count": 2}, ["--quick"]))
    found = json.loads(text)
    suite = found["suites"]["io"]
    assert found["machine"] == {"cpu_count": 2}
    assert [one["values"] for one in suite["measurements"]] == [{"iops": 20}, {"iops": 40}]
    assert suite["ratios"][0]["target"] == "<= 0.65"
    assert suite["ratios"][0]["met"] is True
    assert suite["commands"] == ["fio --name=x"]


def test_tables_show_peers_numbers_and_notes() -> None:
    text = report.tables(make_result(rounds_of("fuseswap", 12345) + rounds_of("zram", 1.5)))
    assert "zram = theirs" in text
    assert "12345" in text
    assert "1.50" in text
    assert text.endswith("a note")


def test_fio_json_becomes_numbers_of_the_side_that_did_something() -> None:
    assert fio.parse("fio: a note first\n" + fio_output()) == {
        "iops": 1234.5,
        "mib_per_s": 5.0,
        "lat_mean_us": 22.0,
        "clat_mean_us": 20.0,
        "clat_p50_us": 18.0,
        "clat_p99_us": 90.0,
        "clat_p999_us": 250.0,
        "clat_max_us": 700.0,
    }


@pytest.mark.parametrize("text", ["", "{}", '{"jobs": []}', "fio: broken", fio_output(read={})])
def test_other_output_is_an_error(text: str) -> None:
    with pytest.raises(HostError, match="fio 3"):
        fio.parse(text)


def test_an_io_error_in_a_job_is_an_error() -> None:
    with pytest.raises(HostError, match="error 5"):
        fio.parse(fio_output(error=5))


def test_fio_never_creates_the_file_it_measures() -> None:
    for line in (fio.fill_command("/x", MIB), *(job.command("/x", MIB, 1) for job in fio.JOBS)):
        assert "--allow_file_create=0" in line
        assert "--direct=1" in line


def test_rounds_go_round_the_peers_and_start_with_another_one() -> None:
    assert list(interleaved(2, "abc")) == [
        (0, "a"), (0, "b"), (0, "c"), (1, "b"), (1, "c"), (1, "a"),
    ]  # fmt: skip


def test_a_suite_makes_the_wanted_peers_only() -> None:
    suite = all_suites()["io"]
    assert [peer.name for peer in suite.make_peers(["zram", "fuseswap"])] == ["fuseswap", "zram"]
    assert [peer.name for peer in suite.make_peers(None)] == list(PEERS)
