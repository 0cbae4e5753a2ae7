"""Questions that a policy of a plugin may answer, each with one method.

    evict_which        stores need room: which segment leaves for the tier next?
    spares             that segment is to leave: does it go to the end of the line instead?
    recompress_which   the processor is idle: which of those that are due comes first?
    clean_which        dead space is to be given back: which segment is cleaned next?
    largest_kept       which pages leave before all others: those of more bytes than that

    class Largest:
        def evict_which(self, candidates: Sequence[Candidate]) -> int: ...
        def spares(self, candidate: Candidate) -> bool: ...
        def largest_kept(self, candidates: Sequence[Candidate]) -> int: ...

A plugin has one of the methods, or more.  One that chooses gets at most `MOST_CANDIDATES`
segments, in the order that holds without it, and returns the place of one of them.  0 is that of
the default.  So the worst answer costs time, never a page.  What may be asked at all, how much
leaves, and which pages of a segment stay is not its to decide.

    asked                                            default
    evict_which       before each segment leaves     0, the oldest
    spares            of the one chosen, `MOST_CANDIDATES` times in a row; then it leaves
                                                     False
    clean_which       of the best by benefit over cost, before each is cleaned
                                                     0, the best
    largest_kept      before each segment leaves, of those in line: 0 to 4096 bytes, for pages
                      that are stored from then on   all that compress

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
from fuseswap.store.segment_entry import Stream
from fuseswap.store.store import Store
from fuseswap.units import PAGE_SIZE, SegmentId

DEFAULT_POLICY = "default"
MOST_CANDIDATES = 16  # 10 us each

EVICT = "evict_which"
SPARE = "spares"
RECOMPRESS = "recompress_which"
CLEAN = "clean_which"
ADMIT = "largest_kept"


class Candidate(NamedTuple):
    """One sealed segment in memory, 1 MiB.

    ``live_bytes``: of objects that are still needed.  ``live_pages``: whose objects these are.
    ``loaded_share``: of its objects, how many were loaded since they were stored, 0 to 1.
    ``survived``: its objects were copied forward, since they were live or loaded.
    """

    segment: SegmentId
    age_seconds: float
    live_bytes: int
    live_pages: int
    loaded_share: float
    survived: bool = False


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
            table.stream_of(segment) is Stream.SURVIVORS,
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

    def ask(self, question: str, about: Any, most: int, default: int) -> int:
        """An answer of the type of ``default``, 0 to ``most``; ``default`` where it is none."""
        if self.health.is_set_aside:
            return default
        began = self._clock()
        try:
            answer = getattr(self._policy, question)(about)
        except BaseException as exc:
            self.health.note_raised(f"{question}: {reason_of(exc)}")
            return default
        finally:
            self.health.note_time(self._clock() - began)
        if type(answer) is not type(default) or not 0 <= answer <= most:
            kind = answer if type(answer) is int else type(answer).__name__
            self.health.note_wrong(f"{question}: {kind} is none of 0 to {most}")
            return default
        found: int = answer
        return found


class Choice:
    """Who answers ``question``: the default, or one of ``policies``."""

    def __init__(self, question: str, policies: Iterable[GuardedPolicy] = (), *more: str) -> None:
        """``more``: questions of the same sort; a policy answers one of all at least."""
        self._question = question
        questions = (question, *more)
        self._policies = {one.name: one for one in policies if any(map(one.answers, questions))}
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
        return candidates[self.place(candidates)].segment

    def place(self, candidates: Sequence[Candidate]) -> int:
        """Where that is."""
        return self._ask(self._question, tuple(candidates), len(candidates) - 1, 0)

    def spares(self, candidate: Candidate) -> bool:
        """Whether it goes to the end of the line instead; a policy may have no opinion."""
        return bool(self._ask(SPARE, candidate, 1, False))

    def bound(self, candidates: Sequence[Candidate], default: int) -> int:
        """The most bytes of a page that is treated like others."""
        return self._ask(self._question, tuple(candidates), PAGE_SIZE, default)

    def _ask(self, question: str, about: Any, most: int, default: int) -> int:
        if self._policy is None or not self._policy.answers(question):
            return default
        return self._policy.ask(question, about, most, default)


class Preference:
    """Of segments of ``cache`` to be cleaned; see `store.victims.Preference`."""

    def __init__(self, policies: Iterable[GuardedPolicy], cache: Store) -> None:
        self.choice = Choice(CLEAN, policies)
        self._cache = cache

    @property
    def is_default(self) -> bool:
        """Whether the first is taken, and nothing needs to be asked."""
        return self.choice.is_default

    def of(self, segments: Sequence[SegmentId]) -> SegmentId:
        """One of ``segments``, best first, of which there is at least one."""
        return self.choice.choose(candidates_of(self._cache, segments))
