"""Questions that a policy of a plugin may answer, each with one method.

    evict_which        stores need room: which segment leaves for the tier next?
    recompress_which   the processor is idle: which of those that are due comes first?

    class Largest:
        def evict_which(self, candidates: Sequence[Candidate]) -> int: ...

A plugin has one of the methods, or both.  It gets at most `MOST_CANDIDATES` segments, in the order
that holds without it, and returns the place of one of them.  0 is that of the default.  So the
worst answer costs time, never a page.  What may be asked at all, how much leaves, and which pages
of a segment stay is not its to decide.

A policy that raises, answers anything else, or takes long is counted and logged
(``plugins/health.py``), and that question gets the default answer.  `Choice` is one question and
who answers it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from fuseswap.errors import InvalidArgument, reason_of
from fuseswap.linux.clocks import boot_s
from fuseswap.plugins.health import PluginHealth
from fuseswap.store.store import Store
from fuseswap.units import SegmentId

DEFAULT_POLICY = "default"
MOST_CANDIDATES = 16  # 10 us each

EVICT = "evict_which"
RECOMPRESS = "recompress_which"


class Candidate(NamedTuple):
    """One sealed segment in memory, 1 MiB.

    ``live_bytes``: of objects that are still needed.  ``live_pages``: whose objects these are.
    ``loaded_share``: of its objects, how many were loaded since they were stored, 0 to 1.
    """

    segment: SegmentId
    age_seconds: float
    live_bytes: int
    live_pages: int
    loaded_share: float


def candidates_of(cache: Store, segments: Iterable[SegmentId]) -> list[Candidate]:
    """What a policy is told of sealed ``segments`` of ``cache``, `MOST_CANDIDATES` at most."""
    table = cache.log.table
    now = boot_s()
    return [
        Candidate(
            segment,
            max(0.0, now - table.sealed_at(segment)),
            table.live_bytes[segment],
            table.live[segment],
            cache.loaded_share(segment),
        )
        for segment in islice(segments, MOST_CANDIDATES)
    ]


class GuardedPolicy:
    """The object of a plugin, whose faults ``health`` counts."""

    def __init__(
        self, policy: Any, health: PluginHealth, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.name = health.name
        self.health = health
        self._policy = policy
        self._clock = clock

    def answers(self, question: str) -> bool:
        """Whether it has that method."""
        return callable(getattr(self._policy, question, None))

    def ask(self, question: str, candidates: Sequence[Candidate]) -> int:
        """The place of one of ``candidates``; 0 where its answer is none."""
        if self.health.is_set_aside:
            return 0
        began = self._clock()
        try:
            answer = getattr(self._policy, question)(tuple(candidates))
        except BaseException as exc:
            self.health.note_raised(f"{question}: {reason_of(exc)}")
            return 0
        finally:
            self.health.note_time(self._clock() - began)
        if type(answer) is not int or not 0 <= answer < len(candidates):
            kind = answer if type(answer) is int else type(answer).__name__
            self.health.note_wrong(f"{question}: {kind} is none of {len(candidates)} segments")
            return 0
        return answer


class Choice:
    """Who answers ``question``: the default, or one of ``policies``."""

    def __init__(self, question: str, policies: Iterable[GuardedPolicy] = ()) -> None:
        self._question = question
        self._policies = {one.name: one for one in policies if one.answers(question)}
        self._policy: GuardedPolicy | None = None

    @property
    def name(self) -> str:
        """Of the policy that was selected."""
        return DEFAULT_POLICY if self._policy is None else self._policy.name

    def select(self, name: str) -> None:
        """Have ``name`` answer from here on; raises `InvalidArgument`."""
        name = name.strip()
        if name != DEFAULT_POLICY and name not in self._policies:
            known = ", ".join([DEFAULT_POLICY, *sorted(self._policies)])
            raise InvalidArgument(f"there is no policy '{name}' for this; there are: {known}")
        self._policy = self._policies.get(name)

    @property
    def is_default(self) -> bool:
        """Whether the first candidate is the answer, and nothing needs to be asked."""
        return self._policy is None or self._policy.health.is_set_aside

    def choose(self, candidates: Sequence[Candidate]) -> SegmentId:
        """The segment of one of ``candidates``, of which there is at least one."""
        place = 0 if self._policy is None else self._policy.ask(self._question, candidates)
        return candidates[place].segment
