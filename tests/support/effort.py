"""How hard the tests that draw at random try: all in `scripts/test`, less in `scripts/check`."""

from __future__ import annotations

import os

EFFORT = float(os.environ.get("FUSESWAP_TEST_EFFORT", "1"))


def scaled(count: int) -> int:
    """``count`` examples, or as many as there is time for."""
    return max(1, round(count * EFFORT))
