"""What a device may be asked to be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fuseswap.daemon.config import DeviceConfig
from fuseswap.daemon.device_files import settings_from
from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.parameters import PARAMETERS
from fuseswap.store.geometry import Geometry
from fuseswap.tiers.ownership_label import BOTH_ENDS_BYTES
from fuseswap.units import GIB, MAX_SEGMENTS, MIB

GOOD: dict[str, Any] = {
    "name": "swap0",
    "size": "1G",
    "pool_limit": "25%",
    "compressor": "zstd",
    "transport": "devfuse",
    "mountpoint": "/run/fuseswap/swap0/mnt",
    "priority": 100,
    "memory_bytes": 4 * GIB,
}


def parse(**changes: object) -> DeviceConfig:
    return DeviceConfig.parse(**{**GOOD, **changes})


def test_words_become_numbers() -> None:
    config = parse()
    assert (config.size_bytes, config.pool_limit_bytes) == (GIB, GIB)
    assert (config.compressor, config.transport) == ("zstd:1", "devfuse")


def test_sizes_are_rounded_down_to_what_can_be() -> None:
    config = parse(size=str(MIB + 4097), pool_limit=str(9 * MIB - 1))
    assert (config.size_bytes, config.pool_limit_bytes) == (MIB + 4096, 8 * MIB)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("size", "1023K", "not between 1M and 16T"),
        ("size", "17T", "not between"),
        ("size", "huge", "not a size"),
        ("size", "50%", "not a size"),
        ("pool_limit", "7M", "less than 8M"),
        ("pool_limit", "0%", "not a percentage"),
        ("compressor", "lzo", "not a compressor"),
        ("transport", "nfs", "use devfuse or pyfuse3"),
        ("priority", -2, "priority"),
        ("priority", 32768, "priority"),
    ],
)
def test_a_bad_value_is_one_line_that_says_what_is_wrong(
    option: str, value: object, says: str
) -> None:
    with pytest.raises(InvalidArgument, match=says) as caught:
        parse(**{option: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "backing_bytes", "says"),
    [
        ("sideways", 0, "not a layout; use packed or in-place"),
        ("in-place", None, "there is no backing"),
        ("in-place", 1023 * MIB, r"of 1075838976 bytes \(1G and 2M\), .* has 1072693248"),
    ],
)
def test_a_layout_that_cannot_be(
    tmp_path: Path, layout: str, backing_bytes: int | None, says: str
) -> None:
    backing = tmp_path / "backing"
    if backing_bytes:
        backing.touch()
        os.truncate(backing, backing_bytes)
    path = "none" if backing_bytes is None else str(backing)
    with pytest.raises(InvalidArgument, match=says) as caught:
        parse(backing=path, backing_layout=layout)
    assert "\n" not in str(caught.value)


def test_a_backing_file_with_more_than_a_location_can_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = BOTH_ENDS_BYTES + (16 << 40)
    monkeypatch.setattr("fuseswap.daemon.config.planned_bytes", lambda path, default: most + MIB)
    with pytest.raises(InvalidArgument) as caught:
        parse(backing="/dev/large")
    message = "backing file /dev/large is larger than 16T, the most that a tier may have"
    assert str(caught.value) == message
    parse(backing="/dev/large", backing_layout="in-place")
    monkeypatch.setattr("fuseswap.daemon.config.planned_bytes", lambda path, default: most)
    parse(backing="/dev/large")


@pytest.mark.parametrize("backing_bytes", [0, GIB, GIB + MIB, GIB + 2 * MIB, 2 * GIB])
def test_the_in_place_layout_has_no_extents(tmp_path: Path, backing_bytes: int) -> None:
    backing = tmp_path / "backing"
    backing.touch()
    os.truncate(backing, backing_bytes)
    config = parse(backing=str(backing), backing_layout="in-place")
    assert config.backing_bytes == max(GIB + 2 * MIB, backing_bytes)
    geometry = Geometry(*config.settings(4 * GIB).geometry)
    assert geometry == Geometry.for_size(GIB, 4 * GIB)


@pytest.mark.parametrize(
    ("option", "value"),
    [("size", "1M"), ("size", "16T"), ("pool_limit", "8M"), ("priority", -1), ("priority", 32767)],
)
def test_the_bounds_themselves_are_good(option: str, value: object) -> None:
    parse(**{option: value})


def test_settings_have_what_the_worker_needs() -> None:
    settings = parse().settings(4 * GIB)
    geometry = Geometry(*settings.geometry)
    assert geometry == Geometry.for_size(GIB, 4 * GIB, MAX_SEGMENTS)
    assert settings.region_bytes.items() >= geometry.region_bytes().items()
    assert set(settings.region_bytes) - set(geometry.region_bytes()) == {"heap"}
    assert settings.parameters == {"compressor": "zstd:1", "pool_limit_bytes": str(GIB)}
    assert set(settings.parameters) <= {parameter.name for parameter in PARAMETERS}
    assert settings.pool_limit_bytes == GIB
    assert settings_from(json.loads(json.dumps(settings.to_json())), "here") == settings


def test_a_device_below_zswap_compresses_harder_unless_told_otherwise() -> None:
    assert parse(compressor=None).compressor == "lz4"
    assert parse(compressor=None, below_zswap=5).compressor == "zstd:1"
    assert parse(compressor="lz4", below_zswap=5).compressor == "lz4"


def test_the_percentage_is_kept_and_an_older_version_had_none() -> None:
    content = parse(below_zswap=7).settings(4 * GIB).to_json()
    assert settings_from(content, "config.json").below_zswap == 7
    del content["below_zswap"]
    assert settings_from(content, "config.json").below_zswap == 0
