"""The suite `tiers` of ``scripts/bench``, on real devices, small and without swap."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from fuseswap.units import MIB
from tests.benchmarks import tiers_run
from tests.benchmarks.nbd import DelayedNbdfuse
from tests.benchmarks.peers import Peer, prepared
from tests.benchmarks.suite import Settings
from tests.benchmarks.tier_peers import FileTierPeer, RemotePeer
from tests.benchmarks.tiers_run import DEEP, SHALLOW, SIZES, WRITEBACK
from tests.support.mounted_devices import new_name

pytestmark = pytest.mark.no_swap

SETTINGS = Settings(rounds=1, seconds=0.5, touches=1)
SMALL = dataclasses.replace(SIZES, device_bytes=64 * MIB, range_bytes=16 * MIB)


def measured(peer: Peer) -> dict[str, dict[str, float]]:
    """What it did, by job."""
    with prepared([peer]):
        found = {one.job: dict(one.values) for one in tiers_run.reads(SETTINGS, [peer], SMALL)}
    assert found[SHALLOW.name]["iops"] > 0
    assert found[DEEP.name]["times_depth_1"] > 0
    return found


def test_pages_are_written_back_to_a_server_and_read_from_it() -> None:
    """``reads`` raises where a page was not on the tier."""
    found = measured(RemotePeer(new_name(), SMALL.device_bytes, SMALL.range_bytes, delay_us=2000))
    assert found[WRITEBACK]["evicted_pages"] == SMALL.range_bytes // 4096
    assert 5 < found[WRITEBACK]["written_mib"] < 10
    assert found[SHALLOW.name]["clat_p50_us"] > 4000, "there and back again"


@pytest.mark.parametrize("encrypt", [True, False])
def test_pages_are_written_back_to_a_file_and_read_from_it(encrypt: bool) -> None:
    name = new_name()
    found = measured(FileTierPeer(name, SMALL.device_bytes, SMALL.range_bytes, encrypt=encrypt))
    assert found[WRITEBACK]["evicted_pages"] == SMALL.range_bytes // 4096


def test_nbdfuse_reads_over_the_same_delay() -> None:
    assert shutil.which("nbdfuse"), "nbdfuse is missing; run: sudo scripts/install test"
    found = measured(DelayedNbdfuse("nbd", SMALL.device_bytes, 2000))
    assert WRITEBACK not in found
    assert found[SHALLOW.name]["clat_p50_us"] > 4000, "there and back again"
