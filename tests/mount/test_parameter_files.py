"""params/: a good value holds, a bad one is EINVAL and changes nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from fuseswap.filesystem.parameters import PARAMETERS
from tests.support.mounted_devices import TestDevice

pytestmark = pytest.mark.no_swap

GOOD = {
    "compressor": ("zstd:5", "lz4"),
    "recomp_algorithm": ("none", "zstd:3"),
    "recompress_age_seconds": ("3600", "0"),
    "recompress_cpu_percent": ("1", "100"),
    "dictionary_gain_percent": ("0", "100"),
    "dedup": ("off", "on", "auto"),
    "max_compression_ratio": ("100",),
    "writethrough": ("N",),
    "pool_limit_bytes": ("33554432", "16777216"),
    "reserve_bytes": ("4194304", "8388608"),
    "same_filled_pages_enabled": ("N", "Y"),
    "non_same_filled_pages_enabled": ("N", "Y"),
    "accept_threshold_percent": ("1", "99"),
    "writeback_batch_size": ("1", "12"),
    "writeback_limit_bytes": ("67108864", "none"),
    "writeback_age_seconds": ("3600", "0"),
    "shrinker_enabled": ("Y", "N"),
    "busy_poll_us": ("0", "1000"),
    "eviction_policy": ("default",),
    "admission_policy": ("default",),
    "cleaning_policy": ("default",),
    "recompression_policy": ("default",),
    "exclusive_loads": ("Y", "N"),
    "isolate": ("N",),
    "tier_timeout": ("1", "600"),
}
BAD = {
    "compressor": ("gzip", "zstd:0", "zstd:", "lz4:1", ""),
    "recomp_algorithm": ("lz4", "zstd:0", ""),
    "recompress_age_seconds": ("-1", "1h"),
    "recompress_cpu_percent": ("0", "101", "5%"),
    "dictionary_gain_percent": ("-1", "101", "3%"),
    "dedup": ("", "Y", "always"),
    "max_compression_ratio": ("0", "101", "50"),  # 50 needs the in-place layout
    "writethrough": ("2", "Y"),  # so does this
    "pool_limit_bytes": ("0", "-1", "5M", "much", "25%"),
    "reserve_bytes": ("0", "3M", "2G", "all"),
    "same_filled_pages_enabled": ("2", "maybe"),
    "non_same_filled_pages_enabled": ("", "YN"),
    "accept_threshold_percent": ("0", "100", "90%"),
    "writeback_batch_size": ("0", "13", "many"),
    "writeback_limit_bytes": ("-1", "never"),
    "writeback_age_seconds": ("-1", "1h"),
    "shrinker_enabled": ("2", ""),
    "busy_poll_us": ("1001", "-5", "1.5", "0x10", "fast"),
    "eviction_policy": ("", "oldest"),
    "admission_policy": ("small",),
    "cleaning_policy": ("",),
    "recompression_policy": ("newest",),
    "exclusive_loads": ("maybe",),
    "isolate": ("2", "maybe"),
    "tier_timeout": ("0", "601", "1.5", "10s"),
}


@pytest.fixture(autouse=True)
def _restored(device: TestDevice) -> Iterator[None]:
    before = {parameter.name: device.param(parameter.name) for parameter in PARAMETERS}
    yield
    for name, value in before.items():
        if name not in GOOD:
            continue
        (device.mountpoint / "params" / name).write_text(value)


def write(device: TestDevice, name: str, value: str) -> None:
    """One write(2), without the truncation that `Path.write_text` begins with."""
    fd = os.open(device.mountpoint / "params" / name, os.O_WRONLY)
    try:
        os.write(fd, value.encode() or b"\n")
    finally:
        os.close(fd)


def test_every_parameter_is_tried() -> None:
    assert set(GOOD) == set(BAD) == {p.name for p in PARAMETERS if p.lasting}


@pytest.mark.parametrize("name", GOOD)
def test_good_values_hold(device: TestDevice, name: str) -> None:
    for value in GOOD[name]:
        write(device, name, value)
        assert device.param(name) == value
        (device.mountpoint / "params" / name).write_text(value + "\n")
        assert device.param(name) == value


@pytest.mark.parametrize("name", BAD)
def test_bad_values_change_nothing(device: TestDevice, name: str) -> None:
    before = {parameter.name: device.param(parameter.name) for parameter in PARAMETERS}
    for value in BAD[name]:
        with pytest.raises(OSError, match="Invalid argument") as caught:
            write(device, name, value)
        assert caught.value.errno == errno.EINVAL
    assert {parameter.name: device.param(parameter.name) for parameter in PARAMETERS} == before
