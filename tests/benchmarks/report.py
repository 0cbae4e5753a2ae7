"""Results as tables for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tests.benchmarks.results import Judgement, Ratio, SuiteResult, judgements, medians, ratios

FORMAT = 1  # of the JSON; raised when a name in it changes its meaning


def tables(result: SuiteResult) -> str:
    """Absolute numbers (medians), then ratios with the targets, a table for each baseline."""
    parts = [f"== {result.name}: medians of {result.settings['rounds']} interleaved rounds"]
    parts += [f"{name} = {what}" for name, what in result.peers.items()]
    parts += ["", absolute_table(result), ""]
    if result.compared:
        found = ratios(result)
        parts.append(
            ratio_table([r for r in found if r.baseline == result.baseline], result.baseline)
        )
        for name in dict.fromkeys(r.baseline for r in found if r.baseline != result.baseline):
            parts += ["", ratio_table([r for r in found if r.baseline == name], name)]
    if judged := judgements(result):
        parts += ["", judgement_table(judged), ""]
    parts += result.notes
    return "\n".join(parts)


def absolute_table(result: SuiteResult) -> str:
    """One line for each job and peer."""
    rows = [["job", "peer", *result.shown]]
    for (job, peer), values in medians(result.measurements).items():
        rows.append([job, peer, *(_shown(values.get(metric)) for metric in result.shown)])
    return align(rows)


def ratio_table(found: Sequence[Ratio], baseline: str) -> str:
    """One line for each job, metric and peer; ``-`` where no target is set."""
    if not found:
        return f"no ratios: they need {baseline} and one other peer"
    rows = [["job", "metric", f"{baseline} /", "ratio", "by round", "target", "met"]]
    for one in found:
        target = f"{one.target.sense.value} {one.target.bound:g}" if one.target else "-"
        met = {None: "-", True: "yes", False: "NO"}[one.is_met]
        spread = f"{one.lowest:.2f}..{one.highest:.2f}"
        rows.append([one.job, one.metric, one.peer, f"{one.ratio:.2f}", spread, target, met])
    return align(rows)


def judgement_table(found: Sequence[Judgement]) -> str:
    """One line for each limit that could be judged."""
    rows = [["job", "metric", "peer", "median", "by round", "target", "met"]]
    for one in found:
        limit = one.limit
        spread = f"{one.lowest:.3f}..{one.highest:.3f}"
        target = f"{limit.sense.value} {limit.bound:g}"
        met = "yes" if one.is_met else "NO"
        rows.append([limit.job, limit.metric, limit.peer, f"{one.value:.3f}", spread, target, met])
    return align(rows)


def summary(results: Sequence[SuiteResult]) -> str:
    """How many of the targets that could be judged were met."""
    judged: list[Ratio | Judgement] = []
    for result in results:
        judged += [one for one in ratios(result) if one.target]
        judged += judgements(result)
    asked = sum(len(result.targets) + len(result.limits) for result in results)
    met = sum(1 for one in judged if one.is_met)
    return f"targets: {met} met, {len(judged) - met} not met, {asked - len(judged)} not measured"


def as_json(
    results: Sequence[SuiteResult], machine: Mapping[str, object], arguments: Sequence[str]
) -> dict[str, Any]:
    """Everything: each single measurement, the medians and ratios, and how it was done."""
    return {
        "format": FORMAT,
        "machine": dict(machine),
        "arguments": list(arguments),
        "suites": {result.name: _suite_json(result) for result in results},
    }


def _suite_json(result: SuiteResult) -> dict[str, Any]:
    return {
        "baseline": result.baseline,
        "peers": dict(result.peers),
        "settings": dict(result.settings),
        "notes": list(result.notes),
        "commands": [" ".join(line) for line in result.commands],
        "measurements": [asdict(one) for one in result.measurements],
        "medians": [
            {"job": job, "peer": peer, "values": values}
            for (job, peer), values in medians(result.measurements).items()
        ],
        "ratios": [_ratio_json(one) for one in ratios(result)],
        "limits": [_judgement_json(one) for one in judgements(result)],
    }


def _judgement_json(one: Judgement) -> dict[str, Any]:
    limit = one.limit
    return {
        "job": limit.job,
        "metric": limit.metric,
        "peer": limit.peer,
        "value": one.value,
        "lowest": one.lowest,
        "highest": one.highest,
        "target": f"{limit.sense.value} {limit.bound:g}",
        "met": one.is_met,
    }


def _ratio_json(one: Ratio) -> dict[str, Any]:
    target = f"{one.target.sense.value} {one.target.bound:g}" if one.target else None
    return {**asdict(one), "target": target, "met": one.is_met}


def _shown(value: float | None) -> str:
    return "-" if value is None else _number(value)


def _number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    if abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart; texts to the left, numbers to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = []
        for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
            is_number = rows[-1][at][:1].isdigit()
            cells.append(cell.rjust(width) if is_number else cell.ljust(width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
