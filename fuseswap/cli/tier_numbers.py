"""Each tier as `tier` shows it: its policy, its state, and the numbers that it has.

Policies come from ``params/tier_params``, a line a tier; numbers from ``metrics``.  What happens
in a second is seen by two looks at that (`counters`): a worker knows its sums alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fuseswap.cli.parameter_files import directory_of
from fuseswap.cli.rates import Rates
from fuseswap.daemon.live_tiers import PARAMETER, names
from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.errors import HostError
from fuseswap.filesystem.metrics_text import parse_metrics
from fuseswap.linux.timed_file import read_file
from fuseswap.units import MIB

MISSING = "missing"
_READS, _WRITTEN = "tier_reads", "tier_written_bytes"
_WORD = re.compile(r"([a-z]+)=(\S+)")


class TierNumbers(NamedTuple):
    """Of one tier.  ``limit_bytes``: None where it may be full; numbers: counts of its own.

    ``may_forget``: segments that were written, as a server without replicas may.  Reads, and
    writes of segments, a second: None where one look was taken.
    """

    name: str
    state: str
    priority: int | None
    limit_bytes: int | None
    numbers: dict[str, int]
    may_forget: bool = False
    reads_per_s: float | None = None
    writes_per_s: float | None = None

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

    @property
    def errors(self) -> int:
        """Reads and writes that failed."""
        numbers = self.numbers
        return numbers.get("tier_failed_writes", 0) + numbers.get("tier_failed_reads", 0)

    def with_rates(self, found: Rates | None) -> TierNumbers:
        """The same, with what happened between two looks at `counters`."""
        if found is None:
            return self
        reads = found.per_second.get(f"{_READS}.{self.name}")
        written = found.per_second.get(f"{_WRITTEN}.{self.name}")
        return self._replace(
            reads_per_s=reads, writes_per_s=None if written is None else written / MIB
        )

    def to_json(self) -> dict[str, Any]:
        """For people's programs."""
        return {
            "name": self.name,
            "state": self.state,
            "may_forget": self.may_forget,
            "priority": self.priority,
            "limit_bytes": self.limit_bytes,
            "size_bytes": self.size_bytes,
            "used_bytes": self.used_bytes,
            "errors": self.errors,
            "reads_per_s": _rounded(self.reads_per_s),
            "writes_per_s": _rounded(self.writes_per_s),
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
    return tiers_in(policies, metrics, names(Runtime(name)))


def tiers_in(policies: str, metrics: Mapping[str, int], given: Iterable[str]) -> list[TierNumbers]:
    """The same, of what was read; ``given``: names of those that the device should have."""
    numbers = numbers_by_tier(metrics)
    found = {one["tier"]: one for one in map(_policy, policies.splitlines()) if "tier" in one}
    known = dict.fromkeys([*found, *given])
    return [_tier(one, found.get(one, {}), numbers.get(one, {})) for one in known]


def counters(metrics: Mapping[str, int]) -> dict[str, float]:
    """Those of ``metrics`` whose growth in a second `TierNumbers` has."""
    return {key: n for key, n in metrics.items() if key.partition(".")[0] in (_READS, _WRITTEN)}


def tier_of(name: str, tier: str) -> TierNumbers:
    """One of them.  Raises `HostError`, naming those there are."""
    found = tiers_of(name)
    for one in found:
        if one.name == tier:
            return one
    known = ", ".join(one.name for one in found) or "none"
    raise HostError(f"{name} has no tier '{tier}'; it has: {known}")


def numbers_by_tier(metrics: Mapping[str, int]) -> dict[str, dict[str, int]]:
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
    return TierNumbers(
        name=name,
        state=policy.get("state", MISSING),
        priority=int(policy["priority"]) if "priority" in policy else None,
        limit_bytes=None if limit == "none" else int(limit),
        numbers=numbers,
        may_forget=policy.get("volatile") == "Y",
    )


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
