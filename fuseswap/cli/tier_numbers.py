"""Each tier as `tier` shows it: its policy, its state, and the numbers that it has.

Policies come from ``params/tier_params``, a line a tier; numbers from ``metrics``.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from fuseswap.cli.parameter_files import directory_of
from fuseswap.daemon.live_tiers import PARAMETER, names
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.filesystem.openmetrics import parse_metrics
from fuseswap.linux.timed_file import read_file
from fuseswap.units import MIB

MISSING = "missing"
_WORD = re.compile(r"([a-z]+)=(\S+)")


class TierNumbers(NamedTuple):
    """Of one tier.  ``limit_bytes``: None where it may be full; numbers: counts of its own."""

    name: str
    state: str
    priority: int | None
    limit_bytes: int | None
    numbers: dict[str, int]

    @property
    def size_bytes(self) -> int:
        """All that it could hold."""
        return self.numbers.get("tier_extents", 0) * MIB

    @property
    def segments(self) -> int:
        """On it, and on their way there."""
        return self.numbers.get("tier_segments", 0)

    @property
    def used_bytes(self) -> int:
        """What `segments` take."""
        return self.segments * MIB

    def to_json(self) -> dict[str, Any]:
        """For people's programs."""
        return {
            "name": self.name,
            "state": self.state,
            "priority": self.priority,
            "limit_bytes": self.limit_bytes,
            "size_bytes": self.size_bytes,
            "used_bytes": self.used_bytes,
            **{key.removeprefix("tier_"): value for key, value in self.numbers.items()},
        }


def tiers_of(name: str) -> list[TierNumbers]:
    """All tiers of the device ``name``, the highest priority first, those that are missing last.

    Raises `HostError` where it does not answer.
    """
    params = directory_of(name)
    try:
        policies = read_file(params / PARAMETER)
        metrics = parse_metrics(read_file(params.parent / "metrics"))
    except OSError as exc:
        raise HostError(f"{name} can't be asked for its tiers: {exc.strerror}") from exc
    numbers = numbers_by_tier(metrics)
    found = {one["tier"]: one for one in map(_policy, policies.splitlines()) if "tier" in one}
    known = [*found, *(one for one in names(Runtime(name)) if one not in found)]
    return [_tier(one, found.get(one, {}), numbers.get(one, {})) for one in known]


def tier_of(name: str, tier: str) -> TierNumbers:
    """One of them.  Raises `HostError`, naming those there are."""
    found = tiers_of(name)
    for one in found:
        if one.name == tier:
            return one
    known = ", ".join(one.name for one in found) or "none"
    raise HostError(f"{name} has no tier '{tier}'; it has: {known}")


def numbers_by_tier(metrics: dict[str, int]) -> dict[str, dict[str, int]]:
    """``tier_segments.file0`` and its like, by tier and name."""
    found: dict[str, dict[str, int]] = {}
    for file, number in metrics.items():
        statistic, dot, tier = file.partition(".")
        if dot and statistic.startswith("tier_"):
            found.setdefault(tier, {})[statistic] = number
    return found


def _policy(line: str) -> dict[str, str]:
    return dict(_WORD.findall(line))


def _tier(name: str, policy: dict[str, str], numbers: dict[str, int]) -> TierNumbers:
    """Without a policy the worker could not make it."""
    limit = policy.get("limit", "none")
    forgets = ", may forget" if policy.get("volatile") == "Y" else ""
    return TierNumbers(
        name=name,
        state=policy.get("state", MISSING) + forgets,
        priority=int(policy["priority"]) if "priority" in policy else None,
        limit_bytes=None if limit == "none" else int(limit),
        numbers=numbers,
    )
