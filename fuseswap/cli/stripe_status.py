"""The status of a set of stripes: one like that of a device, made of those of its stripes.

Sizes and counts are sums, percentages and times the greatest.  What each stripe has for itself, as
process ids, is null: ``stripes`` has it.  A set is as its worst stripe is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fuseswap.cli.striped_set import SHARED

RUNNING, INCOMPLETE = "running", "incomplete"
_SUMS = (
    "size_bytes", "swap_used_bytes", "restarts",
    "worker_rss_bytes", "standby_rss_bytes", "supervisor_rss_bytes",
)  # fmt: skip
_OF_EACH = ("mountpoint", "swapfile", "supervisor_pid", "worker_pid", "standby_pid")
_ALL = ("discards", "resumes", "memory_locked", "io_flusher")
# Percentages, times, and what is 1 or 0.
GREATEST = {
    *("write_amplification_percent", "tier_read_p50_us", "tier_read_p99_us"),
    *("latency_p50_us", "latency_p99_us", "latency_p999_us", "latency_max_us"),
    *("dedup_active", "core_compiled", "plugin_set_aside"),
}


def combined(
    name: str, count: int, limit_bytes: int, stripes: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Of the set ``name`` that should have ``count`` stripes, of which these are there.

    Numbers of one whose files can't be read are not known; the others' are summed up.
    """
    first = stripes[0]
    status = {**first, "name": name}
    status.update(dict.fromkeys(_OF_EACH))
    status.update({key: sum(one[key] or 0 for one in stripes) for key in _SUMS})
    status.update({key: all(one[key] for one in stripes) for key in _ALL})
    status["oom_score_adj"] = max(one["oom_score_adj"] or 0 for one in stripes)
    status["loop"] = ",".join(filter(None, (one["loop"] for one in stripes))) or None
    priorities = dict.fromkeys(str(one["swap_priority"]) for one in stripes)
    if len(priorities) > 1:
        status["swap_priority"] = ",".join(priorities)
    worst = next((one for one in stripes if one["status"] != RUNNING), first)
    status.update(status=worst["status"], log=worst["log"])
    reasons = [f"{one['name']}: {one['reason']}" for one in stripes if one["reason"]]
    if len(stripes) < count:
        status["status"] = INCOMPLETE
        reasons.append(f"{count - len(stripes)} of {count} stripes are gone: fuseswap down {name}")
    status["reason"] = "; ".join(reasons) or None
    status["warnings"] = [f"{one['name']}: {text}" for one in stripes for text in one["warnings"]]
    status["stats"] = statistics_of([one["stats"] for one in stripes if one["stats"]])
    status["params"] = parameters_of([one["params"] for one in stripes if one["params"]])
    if status["params"]:
        status["params"]["pool_limit_bytes"] = str(limit_bytes)
    status["tiers"] = [
        {**tier, "name": f"{one['name'].rpartition('/')[2]}/{tier['name']}"}
        for one in stripes
        for tier in one["tiers"]
    ]
    status["stripes"] = list(stripes)
    return status


def statistics_of(found: Sequence[dict[str, int]]) -> dict[str, int]:
    """Those of all stripes together."""
    numbers: dict[str, int] = {}
    for stats in found:
        for key, number in stats.items():
            before = numbers.get(key, 0)
            greatest = key.partition(".")[0] in GREATEST
            numbers[key] = max(before, number) if greatest else before + number
    return numbers


def parameters_of(found: Sequence[dict[str, str]]) -> dict[str, str]:
    """What all stripes have, or each of them in order, with commas."""
    return (
        {name: _together(name, [one[name] for one in found if name in one]) for name in found[0]}
        if found
        else {}
    )


def _together(name: str, values: Sequence[str]) -> str:
    if name in SHARED and all(value.isdecimal() for value in values):
        return str(sum(map(int, values)))
    return ",".join(dict.fromkeys(values) if len(set(values)) == 1 else values)
