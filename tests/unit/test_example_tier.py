"""The example of a tier: segments by generation, in files."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuseswap_examples.directory import Directory

from fuseswap.tiers.tier_client import ClientSetup, TierClient
from fuseswap.units import SEGMENT_BYTES


async def test_what_is_written_is_read_until_it_is_released(tmp_path: Path) -> None:
    identity = {"device": "swap0"}
    setup = ClientSetup("directory0", str(tmp_path / "a" / "b"), identity, 9, 1.0)
    tier: TierClient = Directory(setup)
    old, new = bytes(SEGMENT_BYTES), bytes(range(256)) * (SEGMENT_BYTES // 256)
    await tier.write(3, 10, old)
    await tier.write(3, 11, new)
    assert await tier.read(3, 11, 1000, 5000) == new[1000:6000]
    assert await tier.read(3, 10, SEGMENT_BYTES - 7, 7) == bytes(7)
    await tier.release(3, 10)
    await tier.release(3, 10)
    with pytest.raises(OSError, match="No data"):
        await tier.read(3, 10, 0, 1)
    with pytest.raises(OSError, match="No data"):
        await tier.read(3, 11, SEGMENT_BYTES - 1, 2)
