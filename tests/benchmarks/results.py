"""Measurements, and what follows from them: medians, ratios, targets met or not.

A ratio is the baseline's median (fuseswap) divided by the peer's, over the same job and
metric.  Since peers are interleaved, the rounds can also be compared one by one: the
lowest and the highest ratio of a round say how much the machine's noise matters.
Knows no unit but the name of the metric, and runs nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Sense(Enum):
    """On which side of its bound a ratio is good."""

    AT_LEAST = ">="
    AT_MOST = "<="


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one peer did at one job in one round: numbers by metric, units in their names."""

    job: str
    peer: str
    round: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Target:
    """What baseline / peer has to reach."""

    job: str
    metric: str
    peer: str
    sense: Sense
    bound: float

    def is_met(self, ratio: float) -> bool:
        """Whether ``ratio`` is on the right side, the bound included."""
        return ratio >= self.bound if self.sense is Sense.AT_LEAST else ratio <= self.bound


@dataclass(frozen=True, slots=True)
class Limit:
    """What a peer's own number has to reach, where no ratio to the baseline says it."""

    job: str
    metric: str
    peer: str
    sense: Sense
    bound: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """A limit, and what was measured: the median, the lowest and the highest round."""

    limit: Limit
    value: float
    lowest: float
    highest: float

    @property
    def is_met(self) -> bool:
        """Whether the median is on the right side, the bound included."""
        bound = self.limit.bound
        return self.value >= bound if self.limit.sense is Sense.AT_LEAST else self.value <= bound


@dataclass(frozen=True, slots=True)
class Ratio:
    """Baseline / peer: of the medians, and of the single rounds the lowest and the highest."""

    job: str
    metric: str
    peer: str
    ratio: float
    lowest: float
    highest: float
    target: Target | None
    baseline: str = "fuseswap"

    @property
    def is_met(self) -> bool | None:
        """None where nothing was asked for."""
        return None if self.target is None else self.target.is_met(self.ratio)


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """All of one suite."""

    name: str
    baseline: str
    compared: Sequence[str]  # metrics to make ratios of
    shown: Sequence[str]  # metrics for the table of absolute numbers
    peers: Mapping[str, str]  # name: description
    settings: Mapping[str, Any]
    notes: Sequence[str]
    commands: Sequence[Sequence[str]]
    targets: Sequence[Target]
    measurements: Sequence[Measurement]
    limits: Sequence[Limit] = ()
    pairs: Sequence[tuple[str, str]] = ()  # further ratios: the first peer over the second


def medians(measurements: Sequence[Measurement]) -> dict[tuple[str, str], dict[str, float]]:
    """Median over the rounds by (job, peer) and metric, in the order of appearance."""
    grouped: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in measurements:
        metrics = grouped.setdefault((one.job, one.peer), {})
        for metric, value in one.values.items():
            metrics.setdefault(metric, []).append(value)
    return {
        key: {metric: statistics.median(values) for metric, values in metrics.items()}
        for key, metrics in grouped.items()
    }


def ratios(result: SuiteResult) -> list[Ratio]:
    """Baseline / peer for every job, other peer, and metric that both have; then the pairs.

    Empty without a baseline.
    """
    middle = medians(result.measurements)
    targets = {(t.job, t.metric, t.peer): t for t in result.targets}
    found = []
    for job, baseline, peer in _compared(result, middle):
        ours, theirs = middle[job, baseline], middle[job, peer]
        for metric in result.compared:
            if metric not in ours or metric not in theirs:
                continue
            single = _round_ratios(result, job, metric, baseline, peer)
            asked = baseline == result.baseline
            found.append(
                Ratio(
                    job=job,
                    metric=metric,
                    peer=peer,
                    ratio=ours[metric] / theirs[metric],
                    lowest=min(single),
                    highest=max(single),
                    target=targets.get((job, metric, peer)) if asked else None,
                    baseline=baseline,
                )
            )
    return found


def _compared(
    result: SuiteResult, middle: Mapping[tuple[str, str], object]
) -> list[tuple[str, str, str]]:
    """Job, and two peers that did it."""
    found = [(job, result.baseline, peer) for job, peer in middle if peer != result.baseline]
    found += [
        (job, *pair) for job in dict.fromkeys(job for job, _ in middle) for pair in result.pairs
    ]
    return [one for one in found if {one[:2], one[::2]} <= middle.keys()]


def judgements(result: SuiteResult) -> list[Judgement]:
    """One for each limit whose number was measured."""
    found = []
    for limit in result.limits:
        values = [
            one.values[limit.metric]
            for one in result.measurements
            if (one.job, one.peer) == (limit.job, limit.peer) and limit.metric in one.values
        ]
        if values:
            middle = statistics.median(values)
            found.append(Judgement(limit, middle, min(values), max(values)))
    return found


def _round_ratios(
    result: SuiteResult, job: str, metric: str, baseline: str, peer: str
) -> list[float]:
    rounds: dict[str, dict[int, float]] = {baseline: {}, peer: {}}
    for one in result.measurements:
        if one.job == job and one.peer in rounds:
            rounds[one.peer][one.round] = one.values[metric]
    theirs = rounds[peer]
    return [ours / theirs[at] for at, ours in rounds[baseline].items() if at in theirs]
