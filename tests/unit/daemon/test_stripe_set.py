"""A set of stripes by its files: names, places, and what each stripe is asked to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuseswap.daemon.config import DeviceConfig
from fuseswap.daemon.memory_limits import needed_bytes
from fuseswap.daemon.pool_table import PoolTable
from fuseswap.daemon.runtime_dir import Runtime, all_devices
from fuseswap.daemon.stripe_configs import backing_of, part_of, tier_of
from fuseswap.daemon.stripe_set import StripeSet, devices_named, find_set, grouped
from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux.swap_area import SwapArea, shortage_bytes
from fuseswap.tiers.tier_spec import parse_tier
from fuseswap.units import GIB, MIB


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FUSESWAP_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(0o700)
    return tmp_path / "run"


def make(name: str, *, size: str = "64M") -> Runtime:
    """A device, or a stripe, as far as its files go."""
    runtime = Runtime(name)
    config = DeviceConfig.parse(
        name=name,
        size=size,
        pool_limit="16M",
        compressor="lz4",
        transport="devfuse",
        mountpoint=str(runtime.default_mountpoint),
        priority=1,
        memory_bytes=GIB,
    )
    runtime.create(config.settings(GIB))
    return runtime


def test_a_stripe_is_a_device_with_a_name_of_its_own(root: Path) -> None:
    found = StripeSet("swap0")
    assert not found.exists()
    found.create(2, 64)
    assert found.exists()
    stripes = found.stripes()
    assert [one.name for one in stripes] == ["swap0/0", "swap0/1"]
    assert [(one.set_name, one.stripe) for one in stripes] == [("swap0", 0), ("swap0", 1)]
    assert stripes[1].directory == root / "swap0" / "1"
    assert found.left() == []
    for stripe in stripes:
        make(stripe.name)
    assert [one.name for one in found.left()] == ["swap0/0", "swap0/1"]


@pytest.mark.parametrize("name", ["swap0/8x", "swap0/", "/0", "swap0/0/1", "swap0/-1", "swap0/10"])
def test_no_other_name_has_a_slash(name: str) -> None:
    with pytest.raises(InvalidArgument):
        Runtime(name)


def test_a_stripe_is_no_set() -> None:
    with pytest.raises(InvalidArgument, match="swap0"):
        StripeSet("swap0/0")
    assert find_set("swap0/0") is None


def test_a_device_beside_a_set() -> None:
    make("plain")
    StripeSet("fast").create(2, 64)
    for number in (0, 1):
        make(f"fast/{number}")
    assert [one.name for one in all_devices()] == ["fast/0", "fast/1", "plain"]
    assert [(name, len(devices)) for name, devices in grouped(None)] == [("fast", 2), ("plain", 1)]
    assert [(name, len(devices)) for name, devices in grouped("fast")] == [("fast", 2)]
    assert [(name, len(devices)) for name, devices in grouped("fast/1")] == [("fast/1", 1)]
    assert [one.name for one in devices_named("fast")] == ["fast/0", "fast/1"]
    assert [one.name for one in devices_named("plain")] == ["plain"]


def test_a_set_whose_stripes_are_lost() -> None:
    StripeSet("fast").create(2, 64)
    with pytest.raises(HostError, match="down fast"):
        grouped("fast")


def test_the_lock_of_a_stripe_lies_beside_all_devices(root: Path) -> None:
    with Runtime("nothing/0").lock():
        assert not (root / "nothing").exists()
        with pytest.raises(BlockingIOError), Runtime("nothing/0").lock(wait=False):
            pass
    assert list(root.iterdir()) == []


def test_a_name_leaves_room_for_the_number() -> None:
    StripeSet("s" * 30).create(2, 64)
    with pytest.raises(InvalidArgument, match="30"):
        StripeSet("s" * 31).create(2, 64)


def test_a_limit_that_no_worker_keeps_to_yet() -> None:
    found = StripeSet("swap0")
    found.create(2, 64)
    assert found.set_limit(128)
    assert found.limit_frames() == 128
    found.release(0)
    table = found.table()
    assert [row.granted for row in table.rows()] == [0, 32]
    table.close()
    assert found.set_limit(32)


def test_a_table_of_a_stripe_that_is_lost() -> None:
    assert PoolTable.of_stripe("swap0") is None
    assert PoolTable.of_stripe("swap0/0") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", "none"),
        ("/var/cold", "/var/cold.1"),
        ("/var/cold,encrypt=no", "/var/cold.1,encrypt=no"),
        ("/dev/vg/cold{stripe}", "/dev/vg/cold1"),
    ],
)
def test_a_backing_file_for_each(text: str, expected: str) -> None:
    assert backing_of(text, 1) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file:/a,b", "file:/a,b.1"),
        ("file:/a,limit=1G,size=2G,priority=3", "file:/a.1"),
        ("block:/dev/vg/a{stripe}", "block:/dev/vg/a1"),
        ("valkey://host:1", "valkey://host:1"),
        ("mirror:file:/a+block:/dev/b{stripe}", "mirror:file:/a.1+block:/dev/b1"),
        ("slow:place-{stripe},encrypt=no", "slow:place-1"),
    ],
)
def test_a_tier_for_each(text: str, expected: str) -> None:
    found = tier_of(text, 1, 2)
    assert found.startswith(expected)
    spec, before = parse_tier(found), parse_tier(text)
    assert (spec.priority, spec.encrypt) == (before.priority, before.encrypt)
    if "limit" in text:
        assert (spec.limit_bytes, spec.size_bytes) == (512 * MIB, GIB)


@pytest.mark.parametrize("text", ["block:/dev/sdb", "slow:place", "mirror:file:/a+block:/dev/b"])
def test_what_stripes_cannot_share(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"\{stripe\}"):
        tier_of(text, 0, 2)


def test_parts_of_sizes() -> None:
    assert part_of("1G", 4) == str(256 * MIB)
    assert part_of("50%", 2, GIB) == str(256 * MIB)


def test_the_fixed_memory_is_that_of_each() -> None:
    assert needed_bytes(GIB, 3) - GIB == 3 * (needed_bytes(GIB) - GIB)


def test_what_leaves_one_stripe_does_not_fit_into_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    areas = [SwapArea(f"/dev/loop{n}", 4 * GIB, 2 * GIB, 1) for n in range(2)]
    monkeypatch.setattr("fuseswap.linux.swap_area.areas", lambda: areas)
    monkeypatch.setattr("fuseswap.linux.swap_area.memory_bytes", lambda: 4 * GIB)
    monkeypatch.setattr("fuseswap.linux.swap_area.available_bytes", lambda: GIB)
    assert shortage_bytes("/dev/loop0") == 0
    assert shortage_bytes("/dev/loop0", "/dev/loop1") == 3 * GIB + 64 * MIB
