"""Parameters: each can be read and set, and a bad value changes nothing."""

from __future__ import annotations

import pytest

from fuseswap.errors import InvalidArgument, StoreRefused
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.host_numbers import HostNumbers
from fuseswap.filesystem.parameters import PARAMETERS, find_parameter, restore_parameters
from fuseswap.units import MIB, PageNumber
from tests.support import pages
from tests.support.log_invariants import StoredObject

# name -> default, (what is written, what is read then), values that are refused
CASES: dict[str, tuple[str, list[tuple[str, str]], list[str]]] = {
    "compressor": (
        "lz4",
        [("zstd", "zstd:1"), ("zstd:19", "zstd:19"), ("lz4", "lz4")],
        ["", "lzo", "zstd:20", "zstd:0", "lz4:3"],
    ),
    "pool_limit_bytes": (
        str(16 * MIB),
        [("8M", str(8 * MIB)), (str(9 * MIB + 5), str(9 * MIB)), ("1T", str(16 * MIB))],
        ["", "7M", "-8M", "25%", "much", "0"],
    ),
    "reserve_bytes": (
        "0",  # without a feeder
        [("4M", str(4 * MIB)), ("16M", str(16 * MIB)), (str(9 * MIB + 5), str(9 * MIB))],
        ["", "3M", "-8M", "1025M", "all"],
    ),
    "same_filled_pages_enabled": (
        "Y",
        [("N", "N"), ("y", "Y"), ("0", "N"), ("on", "Y"), ("false", "N")],
        ["", "2", "maybe", "YN"],
    ),
    "non_same_filled_pages_enabled": (
        "Y",
        [("N", "N"), ("1", "Y"), ("off", "N"), ("yes", "Y")],
        ["", "2", "maybe"],
    ),
    "max_compression_ratio": (
        "100",
        [(str(n), str(n)) for n in range(1, 101)],
        ["", "0", "101", "-1", "50%", "half"],
    ),
    "writethrough": ("N", [("Y", "Y"), ("off", "N"), ("1", "Y")], ["", "2", "maybe"]),
    "accept_threshold_percent": (
        "90",
        [("1", "1"), ("99", "99"), ("050", "50")],
        ["", "0", "100", "90%", "-1"],
    ),
    "exclusive_loads": ("N", [("Y", "Y"), ("off", "N"), ("1", "Y")], ["", "2", "maybe"]),
    "dedup": (
        "auto",
        [("on", "on"), ("off", "off"), ("auto", "auto")],
        ["", "Y", "On", "always"],
    ),
    "isolate": ("N", [("N", "N"), ("off", "N"), ("Y", "Y"), ("1", "Y")], ["", "2", "maybe"]),
    "recomp_algorithm": (
        "zstd:12",
        [("none", "none"), ("zstd:3", "zstd:3"), ("zstd", "zstd:1"), (" zstd:19", "zstd:19")],
        ["", "lz4", "zstd:0", "zstd:20", "zstd:", "all"],
    ),
    "recompress_age_seconds": (
        "60",
        [("0", "0"), ("5", "5"), ("604800", "604800")],
        ["", "-1", "1m", "604801"],
    ),
    "recompress_cpu_percent": ("100", [("1", "1"), ("25", "25")], ["", "0", "101", "-1", "5%"]),
    "dictionary_gain_percent": ("3", [("0", "0"), ("100", "100")], ["", "-1", "101", "3%"]),
    "writeback_batch_size": (
        "4",
        [("1", "1"), ("12", "12")],
        ["", "0", "13", "all"],
    ),
    "writeback_limit_bytes": (
        "none",
        [("0", "0"), ("512M", str(512 * MIB)), ("none", "none"), ("7", "7")],
        ["", "-1", "None", "25%"],
    ),
    "writeback_age_seconds": ("0", [("60", "60"), ("0", "0")], ["", "-1", "1h", "604801"]),
    "tier_timeout": ("30", [("1", "1"), ("600", "600")], ["", "0", "601", "1.5", "10s"]),
    "shrinker_enabled": ("N", [("Y", "Y"), ("off", "N")], ["", "2"]),
    "eviction_policy": ("default", [("largest", "largest"), ("default", "default")], ["", "odd"]),
    "admission_policy": ("default", [("size_aware", "size_aware")], ["", "odd"]),
    "cleaning_policy": ("default", [("cost_age", "cost_age")], ["", "odd"]),
    "recompression_policy": ("default", [(" largest", "largest")], ["", "Largest", "default:1"]),
    "busy_poll_us": (
        "200",
        [("0", "0"), ("1000", "1000"), ("007", "7")],
        ["", "-1", "1001", "1.5", "0x10", "many", "1 000"],
    ),
}


def test_every_parameter_has_a_case() -> None:
    assert set(CASES) == {p.name for p in PARAMETERS if p.lasting}


@pytest.mark.parametrize("name", CASES)
def test_get_and_set(roomy_device: Device, name: str) -> None:
    parameter = find_parameter(name)
    default, good, _ = CASES[name]
    assert parameter.get(roomy_device) == default
    for written, read in good:
        parameter.set(roomy_device, written)
        assert parameter.get(roomy_device) == read
        parameter.set(roomy_device, parameter.get(roomy_device))
        assert parameter.get(roomy_device) == read


@pytest.mark.parametrize("name", CASES)
def test_a_bad_value_changes_nothing(roomy_device: Device, name: str) -> None:
    _, good, bad = CASES[name]
    find_parameter(name).set(roomy_device, good[0][0])
    before = [parameter.get(roomy_device) for parameter in PARAMETERS]
    for value in bad:
        with pytest.raises(InvalidArgument):
            find_parameter(name).set(roomy_device, value)
        assert [parameter.get(roomy_device) for parameter in PARAMETERS] == before


def test_setting_one_changes_no_other(roomy_device: Device) -> None:
    for name, (_, good, _) in CASES.items():
        before = {parameter.name: parameter.get(roomy_device) for parameter in PARAMETERS}
        find_parameter(name).set(roomy_device, good[0][0])
        after = {parameter.name: parameter.get(roomy_device) for parameter in PARAMETERS}
        changed = {n for n in after if after[n] != before[n]}
        assert changed == ({name} - {"isolate"})  # it would change two more: test_isolate.py


@pytest.mark.parametrize(
    ("name", "value"), [("max_compression_ratio", "99"), ("writethrough", "Y")]
)
def test_what_needs_the_in_place_layout_says_so(device: Device, name: str, value: str) -> None:
    parameter = find_parameter(name)
    with pytest.raises(InvalidArgument, match="layout in-place") as caught:
        parameter.set(device, value)
    assert "\n" not in str(caught.value)
    parameter.set(device, CASES[name][0])  # a device is brought up with all it can get
    assert parameter.get(device) == CASES[name][0]


def test_an_unknown_name_is_told_those_there_are() -> None:
    with pytest.raises(InvalidArgument, match="compressor, pool_limit_bytes"):
        find_parameter("colour")


def test_they_reach_the_store(roomy_device: Device) -> None:
    cache = roomy_device.cache
    find_parameter("same_filled_pages_enabled").set(roomy_device, "N")
    roomy_device.frontswap.store(PageNumber(0), pages.ZERO)
    assert cache.statistics().same_filled_pages == 0
    find_parameter("compressor").set(roomy_device, "zstd:3")
    roomy_device.frontswap.store(PageNumber(1), pages.CORPUS["compressible"])
    codecs = [StoredObject.of(page, cache.slots.get(PageNumber(page))).codec for page in (0, 1)]
    assert codecs[0] != codecs[1]
    find_parameter("non_same_filled_pages_enabled").set(roomy_device, "N")
    with pytest.raises(StoreRefused):
        cache.store(PageNumber(2), pages.CORPUS["compressible"], 0)
    find_parameter("pool_limit_bytes").set(roomy_device, "8M")
    assert cache.log.frames.limit == 8


def test_the_limit_of_a_stripe_is_not_set_at_it(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "host", HostNumbers(limit_is_shared=lambda: True))
    before = device.cache.pool_limit_bytes
    with pytest.raises(InvalidArgument, match="share"):
        find_parameter("pool_limit_bytes").set(device, "8M")
    assert device.cache.pool_limit_bytes == before


def test_what_can_not_be_restored_keeps_no_worker_from_starting(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    """A codec that is not registered any more, or a parameter of another version."""
    kept = {"compressor": "gone:3", "long_gone": "1", "recomp_algorithm": "zstd:9"}
    with pytest.raises(InvalidArgument, match="'gone:3' is not a compressor"):
        restore_parameters(device, kept, strictly=True)
    restore_parameters(device, kept, strictly=False)
    assert device.cache.encoder.compressor.name == "lz4"
    assert device.recompression.algorithm == "zstd:9"
    assert "parameter compressor is not what it was: 'gone:3' is not a compressor" in caplog.text
    assert "parameter long_gone is not what it was" in caplog.text
