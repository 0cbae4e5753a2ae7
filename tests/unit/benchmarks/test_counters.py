"""What the suites `writeback`, `busy` and `churn` compute from counters, and zswap's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fuseswap.errors import HostError
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.openmetrics import render_metrics
from fuseswap.linux.zswap import recommended
from fuseswap.units import KIB, MIB, PAGE_SIZE
from tests.benchmarks import below_run, busy_run, churn_run, fio, report, writeback_run, zswap
from tests.benchmarks.counters import DiskIo, Traffic, parse_disk_stat, parse_metrics, parse_vmstat
from tests.benchmarks.fio import Job
from tests.benchmarks.peers import Fuseswap
from tests.benchmarks.results import SuiteResult
from tests.benchmarks.sampler import Sampler
from tests.benchmarks.suites import all_suites

PARAMETERS = {"enabled": "N", "compressor": "lzo", "max_pool_percent": "20"}


class FakeDevice(Fuseswap):
    """Answers with the given metrics, one after the other; the last one again and again."""

    def __init__(self, *answers: Mapping[str, int]) -> None:
        super().__init__("fake", MIB)
        self._answers = [dict(answer) for answer in answers]

    def metrics(self) -> dict[str, int]:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def counted(**values: int) -> dict[str, int]:
    return {"failed_requests": 0, "failed_stores": 0, "checksum_errors": 0, **values}


def parameters_in(directory: Path) -> dict[str, str]:
    return {one.name: one.read_text() for one in directory.iterdir()}


@pytest.fixture
def zswap_parameters(tmp_path: Path) -> Path:
    for name, value in PARAMETERS.items():
        (tmp_path / name).write_text(value)
    return tmp_path


def test_metrics_of_a_device_come_back_under_the_names_of_its_statistics(device: Device) -> None:
    device.swapfile.write(0, memoryview(bytes(range(256)) * 32))
    found = parse_metrics(render_metrics(device))
    assert found["stored_pages"] == 2
    assert found["succ_stores"] == 2
    assert found["mem_used_total"] >= found["pool_total_size"] > 0


def test_metrics_that_are_cut_off_are_an_error() -> None:
    with pytest.raises(HostError, match="cut off"):
        parse_metrics("fuseswap_stored_pages 2\n")


def test_disk_stat_is_in_sectors_of_512_bytes() -> None:
    line = "  10 1 2048 3   20 4 4096 5   0 6 7   8 9 10 11   12 13\n"
    assert parse_disk_stat(line) == DiskIo(read_bytes=MIB, written_bytes=2 * MIB)


def test_vmstat_is_names_and_numbers() -> None:
    assert parse_vmstat("pswpin 3\nzswpwb 12345678901\n") == {"pswpin": 3, "zswpwb": 12345678901}


def test_bytes_a_page_are_of_what_was_added() -> None:
    before, after = Traffic(100, 90, 1000, 7), Traffic(150, 110, 101_000, 10)
    moved = after.since(before)
    assert moved == Traffic(50, 20, 100_000, 3)
    assert moved.bytes_per_evicted_page == 2000


def test_a_pool_that_never_overflowed_is_an_error() -> None:
    with pytest.raises(HostError, match="never overflowed"):
        _ = Traffic(0, 0, 0, 0).bytes_per_evicted_page


def test_zswap_gets_back_what_it_had_also_after_an_error(zswap_parameters: Path) -> None:
    wanted = {"max_pool_percent": "1", "enabled": "Y"}
    seen = {}

    def run() -> None:
        with zswap.configured(wanted, zswap_parameters):
            seen.update(parameters_in(zswap_parameters))
            raise HostError("a bad page")

    with pytest.raises(HostError, match="a bad page"):
        run()
    assert seen == {**PARAMETERS, **wanted}
    assert parameters_in(zswap_parameters) == PARAMETERS


def test_zswap_gets_back_what_was_set_before_a_parameter_it_lacks(zswap_parameters: Path) -> None:
    wanted = {"enabled": "Y", "shrinker_enabled": "N"}
    with (
        pytest.raises(HostError, match="shrinker_enabled"),
        zswap.configured(wanted, zswap_parameters),
    ):
        pytest.fail("it has no such parameter")
    assert parameters_in(zswap_parameters) == PARAMETERS


def test_whether_a_value_is_taken_changes_nothing(zswap_parameters: Path) -> None:
    assert zswap.takes("max_pool_percent", "3", zswap_parameters)
    assert not zswap.takes("shrinker_enabled", "Y", zswap_parameters)
    assert parameters_in(zswap_parameters) == PARAMETERS


def test_a_kernel_without_zswap_has_it_off_and_cannot_have_it_on(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with zswap.configured({"enabled": "N"}, missing):
        assert not missing.exists()
    with pytest.raises(HostError), zswap.configured({"enabled": "Y"}, missing):
        pytest.fail("there is no zswap")


@pytest.fixture
def no_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer below zswap asks the kernel for its codecs, which takes root."""
    monkeypatch.setattr(zswap, "takes", lambda name, value: name == "compressor")


@pytest.mark.usefixtures("no_trials")
def test_zswap_is_on_for_its_own_peers_alone() -> None:
    peers = [peer for suite in all_suites().values() for peer in suite.make_peers(None)]
    below = {f"below-{percent}" for percent in below_run.PERCENTS}
    assert {peer.name for peer in peers if peer.zswap["enabled"] == "Y"} == {"zswap", *below}


@pytest.mark.usefixtures("no_trials")
def test_the_last_parameter_switches_zswap_on() -> None:
    peers = all_suites()["below"].make_peers([f"below-{one}" for one in below_run.PERCENTS])
    for peer in (zswap.Zswap("zswap", MIB), *peers):
        assert list(peer.zswap)[-1] == "enabled"


@pytest.mark.usefixtures("no_trials")
def test_a_peer_below_zswap_is_as_up_makes_it() -> None:
    [peer] = all_suites()["below"].make_peers([below_run.BELOW])
    assert peer.zswap == recommended(below_run.PERCENTS[0])
    assert "zstd" in peer.describe()


def test_the_pressure_overflows_both_pools() -> None:
    [ours, theirs] = all_suites()["writeback"].make_peers(["fuseswap", "zswap"])
    assert f"pool of {zswap.pool_limit_bytes() // MIB} MiB" in ours.describe()
    assert ours.size_bytes == theirs.size_bytes > writeback_run.PROCESS_BYTES
    swapped_out = writeback_run.PROCESS_BYTES - writeback_run.LIMIT_BYTES
    assert swapped_out * 0.8 * 0.35 > zswap.pool_limit_bytes()


def test_every_target_of_writeback_names_a_peer_and_a_compared_metric() -> None:
    assert {target.peer for target in writeback_run.TARGETS} <= set(writeback_run.PEERS)
    assert {target.metric for target in writeback_run.TARGETS} <= set(writeback_run.COMPARED)


def test_the_layout_is_said_and_named_to_up_unless_it_is_the_default() -> None:
    packed = writeback_run.fuseswap("a", "packed")
    in_place = writeback_run.fuseswap("b", "in-place")
    assert "packed backing file" in packed.describe()
    assert "in-place backing file" in in_place.describe()
    assert "--backing-layout" not in packed.up_command()
    assert in_place.up_command()[-2:] == ["--backing-layout", "in-place"]
    assert "--backing" not in Fuseswap("c", MIB).up_command()


def test_a_rate_and_an_offset_are_options_of_the_job() -> None:
    line = Job("randwrite", 4 * KIB, 8).command("/x", MIB, 2, offset_bytes=MIB, rate=100)
    assert {"--offset=1048576", "--rate_iops=100", "--runtime=2", "--size=1048576"} <= set(line)
    assert not [option for option in Job("read", MIB, 4).command("/x", MIB, 2) if "rate" in option]


def test_jobs_together_are_one_command() -> None:
    first, second = (Job(kind, 4 * KIB, 1).command("/x", MIB, 1) for kind in ("read", "write"))
    line = fio.together(first, second)
    assert line.count("fio") == 1
    assert [option for option in line if option.startswith("--name=")] == [first[1], second[1]]


def test_the_writer_leaves_the_hot_pages_to_their_own_job() -> None:
    line = busy_run.writer_command("/x", 5)
    overwrite = line[: line.index("--name=write-64k-qd1")]
    assert f"--offset={busy_run.HOT_BYTES}" in overwrite
    assert f"--size={busy_run.RANGE_BYTES - busy_run.HOT_BYTES}" in overwrite
    assert f"--rate_iops={busy_run.WRITES_A_SECOND}" in overwrite
    refresh = line[len(overwrite) :]
    assert f"--size={busy_run.HOT_BYTES}" in refresh
    assert "--rate_iops=64" in refresh  # of 64 KiB: 4 MiB a second


def test_deltas_are_of_the_whole_run_and_peaks_of_every_sample() -> None:
    device = FakeDevice(
        counted(bd_writes=10, outstanding_writebacks=3),
        counted(bd_writes=25, outstanding_writebacks=1),
    )
    with Sampler(device) as sampler:
        pass
    assert sampler.delta("bd_writes") == 15
    assert sampler.peak("outstanding_writebacks") == 3


@pytest.mark.parametrize("name", ["failed_requests", "failed_stores", "checksum_errors"])
def test_a_failure_during_a_run_is_an_error(name: str) -> None:
    device = FakeDevice(counted(), counted(**{name: 2}))
    with pytest.raises(HostError, match=f"2 {name}"), Sampler(device):
        pass


def test_a_counter_that_went_back_says_that_the_worker_was_replaced() -> None:
    device = FakeDevice(counted(loads=10), counted(loads=3))
    with Sampler(device) as sampler:
        pass
    with pytest.raises(HostError, match="replaced"):
        sampler.delta("loads")


def test_living_bytes_are_those_in_segments() -> None:
    sample = {"stored_pages": 110, "same_filled_pages": 10, "compr_data_size": 200_000}
    assert churn_run.living_bytes(sample) == 200_000 + 100 * 8


def test_the_range_fills_nine_tenths_of_the_pool() -> None:
    sample = {"stored_pages": 100, "same_filled_pages": 0, "compr_data_size": 100 * 1992}
    size = churn_run.range_bytes(sample, 100 * MIB)
    assert size % PAGE_SIZE == 0
    assert size // PAGE_SIZE * 2000 == pytest.approx(0.9 * 100 * MIB, rel=1e-4)


def test_write_amplification_is_what_was_written_for_each_byte_stored() -> None:
    first = {
        "stored_pages": 10, "same_filled_pages": 0, "compr_data_size": 9_920,
        "pool_total_size": 20_000, "succ_stores": 0, "cleaner_copied_bytes": 5_000,
    }  # fmt: skip
    last = {**first, "succ_stores": 100, "cleaner_copied_bytes": 305_000, "pool_total_size": 12_500}
    found = churn_run.amounts([first, last], 20_000)
    assert found["copied_per_stored"] == 3.0  # 300 000 bytes for 100 objects of 1000
    assert found["written_per_stored"] == 4.0
    assert found["occupancy"] == 0.5
    assert found["theory"] == 2.0
    assert found["lowest_utilisation"] == 0.5
    assert found["utilisation"] == pytest.approx(0.65)


def test_a_suite_that_compares_nothing_has_no_table_of_ratios() -> None:
    result = SuiteResult(
        name="busy", baseline="fuseswap", compared=(), shown=(), peers={}, settings={"rounds": 1},
        notes=("a note",), commands=(), targets=(), measurements=(),
    )  # fmt: skip
    assert "ratio" not in report.tables(result)
