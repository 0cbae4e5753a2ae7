"""Policies of plugins: they choose among what is offered, and nothing worse can happen."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import trio
from fuseswap_bad_plugins import NonsensePolicy, RaisingPolicy
from fuseswap_examples.largest_first import LargestFirst
from trio.testing import wait_all_tasks_blocked

from fuseswap.codecs.codec import MAX_COMPRESSED_BYTES
from fuseswap.errors import InvalidArgument
from fuseswap.filesystem.device import Device
from fuseswap.filesystem.parameters import find_parameter
from fuseswap.filesystem.plugged import Plugged
from fuseswap.plugins.health import MOST_FAULTS
from fuseswap.reclaim.policy import (
    EVICT,
    MOST_CANDIDATES,
    RECOMPRESS,
    SPARE,
    Candidate,
    Choice,
)
from fuseswap.store.segment_entry import Stream
from fuseswap.units import SegmentId
from tests.support.fake_tier import FakeTier
from tests.support.memory_stores import SharedMemory
from tests.support.plugged import a_policy, ticking
from tests.support.recompressed_devices import make_old
from tests.support.tiered_devices import Tiered, dense


class Last:
    """Takes the last of all; remembers what it was offered."""

    def __init__(self) -> None:
        self.offered: list[tuple[Candidate, ...]] = []

    def evict_which(self, candidates: tuple[Candidate, ...]) -> int:
        self.offered.append(candidates)
        return len(candidates) - 1

    recompress_which = evict_which


def candidates(*live_bytes: int, loaded: float = 0.0) -> list[Candidate]:
    return [Candidate(SegmentId(9 + n), 1.0, b, 1, loaded) for n, b in enumerate(live_bytes)]


def choice_of(policy: object, question: str = EVICT) -> Choice:
    choice = Choice(question, [a_policy(policy, "one")])
    choice.select("one")
    return choice


def test_the_default_takes_the_first() -> None:
    choice = Choice(EVICT)
    assert choice.is_default
    assert choice.choose(candidates(1, 2, 3)) == 9


def test_a_policy_takes_any() -> None:
    assert choice_of(LargestFirst()).choose(candidates(1, 7, 3, 7)) == 10
    assert choice_of(Last(), RECOMPRESS).choose(candidates(1, 2, 3)) == 11


@pytest.mark.parametrize("answer", [-1, 3, True, 1.0, None, "1", SegmentId(9)])
def test_nonsense_is_the_first_and_counted(answer: object) -> None:
    class Odd:
        def evict_which(self, candidates: Sequence[Candidate]) -> object:
            return answer

    policy = a_policy(Odd(), "odd")
    choice = Choice(EVICT, [policy])
    choice.select("odd")
    assert choice.choose(candidates(1, 2, 3)) == 9
    assert policy.health.counters.plugin_faults == 1


def test_one_that_raises_is_logged_once_and_set_aside(caplog: pytest.LogCaptureFixture) -> None:
    choice = choice_of(RaisingPolicy())
    with caplog.at_level(logging.ERROR):
        for _ in range(MOST_FAULTS):
            assert not choice.is_default
            assert choice.choose(candidates(1, 2)) == 9
    assert choice.is_default
    assert choice.name == "one"
    assert caplog.messages == [
        "policy 'one' (a-package 1.2) is at fault: evict_which: KeyError: 2",
        "policy 'one' (a-package 1.2) is set aside, another goes on: 8 faults",
    ]


def test_one_that_blocks_is_set_aside() -> None:
    choice = Choice(EVICT, [a_policy(Last(), "slow", clock=ticking(1.0))])
    choice.select("slow")
    assert [choice.choose(candidates(1, 2)) for _ in range(5)] == [10, 10, 10, 9, 9]


def test_only_those_that_answer_can_be_selected() -> None:
    choice = Choice(RECOMPRESS, [a_policy(RaisingPolicy(), "raising"), a_policy(Last(), "last")])
    with pytest.raises(InvalidArgument, match=r"there are: default, last$"):
        choice.select("raising")
    assert choice.name == "default"
    choice.select(" last\n")
    assert choice.name == "last"
    choice.select("default")
    assert choice.is_default


def tiered_with(memory: SharedMemory, tier: FakeTier, policy: object) -> Tiered:
    return Tiered(memory, tier, plugged=Plugged(policies=(a_policy(policy, "one"),)))


async def first_to_leave(tiered: Tiered, nursery: trio.Nursery) -> list[int]:
    """Sequences of what leaves a pool that is full, one after the other."""
    tiered.device.in_flight.batch_size = 1
    nursery.start_soon(tiered.writeback.run)
    await tiered.write(tiered.fill())
    await wait_all_tasks_blocked()
    await tiered.check()
    return [tiered.log.table.sequence_of(tiered.segment_of(page)) for page in tiered.on_tier()]


@pytest.mark.parametrize("name", ["default", "one"])
async def test_it_says_who_leaves(
    tiered_memory: SharedMemory, tier: FakeTier, nursery: trio.Nursery, name: str
) -> None:
    policy = Last()
    tiered = tiered_with(tiered_memory, tier, policy)
    find_parameter("eviction_policy").set(tiered.device, name)
    left = await first_to_leave(tiered, nursery)
    oldest = min(tiered.log.table.sequence_of(tiered.segment_of(p)) for p in tiered.expected)
    assert (oldest in left) == (name == "default")
    assert bool(policy.offered) == (name == "one")
    for offered in policy.offered:
        assert 1 <= len(offered) <= MOST_CANDIDATES
        ages = [one.age_seconds for one in offered]
        assert ages == sorted(ages, reverse=True)
        assert all(one.live_bytes > 0 and one.live_pages > 0 for one in offered)


@pytest.mark.parametrize("policy", [RaisingPolicy(), NonsensePolicy()])
async def test_a_bad_one_leaves_it_to_the_default(
    tiered_memory: SharedMemory, tier: FakeTier, nursery: trio.Nursery, policy: object
) -> None:
    tiered = tiered_with(tiered_memory, tier, policy)
    find_parameter("eviction_policy").set(tiered.device, "one")
    left = await first_to_leave(tiered, nursery)
    oldest = min(tiered.log.table.sequence_of(tiered.segment_of(p)) for p in tiered.expected)
    assert oldest in left


def test_it_says_what_is_recompressed_first(tiered_memory: SharedMemory, tier: FakeTier) -> None:
    last = Last()
    tiered = tiered_with(tiered_memory, tier, last)
    for page in range(800):
        tiered.store(page, dense(page))
    make_old(tiered.log)
    find_parameter("recompression_policy").set(tiered.device, "one")
    chosen = tiered.device.recompression.policy.next(urgent=False)
    offered = [one.segment for one in last.offered[0]]
    assert chosen == offered[-1] != offered[0]


def test_a_policy_that_is_gone_is_the_default_again(device: Device) -> None:
    with pytest.raises(InvalidArgument):
        find_parameter("eviction_policy").set(device, "gone")
    assert find_parameter("eviction_policy").get(device) == "default"


class SparesOnce:
    """Each segment goes to the end of the line once."""

    def __init__(self) -> None:
        self.spared: list[SegmentId] = []

    def spares(self, candidate: Candidate) -> bool:
        if candidate.segment in self.spared:
            return False
        self.spared.append(candidate.segment)
        return True


async def test_what_is_spared_goes_to_the_end_of_the_line(
    tiered_memory: SharedMemory, tier: FakeTier, nursery: trio.Nursery
) -> None:
    policy = SparesOnce()
    tiered = tiered_with(tiered_memory, tier, policy)
    find_parameter("eviction_policy").set(tiered.device, "one")
    left = await first_to_leave(tiered, nursery)
    assert policy.spared
    assert left


async def test_one_that_spares_all_can_not_keep_memory_full(
    tiered_memory: SharedMemory, tier: FakeTier, nursery: trio.Nursery
) -> None:
    class SparesAll:
        def spares(self, candidate: Candidate) -> bool:
            return True

    tiered = tiered_with(tiered_memory, tier, SparesAll())
    find_parameter("eviction_policy").set(tiered.device, "one")
    assert await first_to_leave(tiered, nursery)


def test_spares_is_a_yes_or_a_no() -> None:
    class Odd:
        def spares(self, candidate: Candidate) -> object:
            return 1

    policy = a_policy(Odd(), "odd")
    choice = Choice(EVICT, [policy], SPARE)
    choice.select("odd")
    assert choice.choose(candidates(1, 2)) == 9, "it has no opinion on that"
    assert not choice.spares(candidates(1)[0])
    assert policy.health.counters.plugin_faults == 1


async def test_large_pages_leave_first(
    tiered_memory: SharedMemory, tier: FakeTier, nursery: trio.Nursery
) -> None:
    class Bound:
        def largest_kept(self, candidates: Sequence[Candidate]) -> int:
            return 2000

    tiered = tiered_with(tiered_memory, tier, Bound())
    assert tiered.device.cache.largest_kept == MAX_COMPRESSED_BYTES
    find_parameter("admission_policy").set(tiered.device, "one")
    await first_to_leave(tiered, nursery)
    assert tiered.device.cache.largest_kept == 2000
    for page in range(4000, 4010):
        tiered.store(page, dense(page))
        stream = tiered.log.table.stream_of(tiered.segment_of(page))
        assert stream is Stream.INCOMPRESSIBLE
    find_parameter("admission_policy").set(tiered.device, "default")
    assert tiered.device.cache.largest_kept == MAX_COMPRESSED_BYTES


def test_it_says_what_is_cleaned(tiered_memory: SharedMemory, tier: FakeTier) -> None:
    class Worst:
        def __init__(self) -> None:
            self.offered: tuple[Candidate, ...] = ()

        def clean_which(self, candidates: tuple[Candidate, ...]) -> int:
            self.offered = candidates
            return len(candidates) - 1

    policy = Worst()
    tiered = tiered_with(tiered_memory, tier, policy)
    for page in range(800):
        tiered.store(page, dense(page))
    for page in [*range(0, 266, 2), *range(266, 532, 4)]:
        tiered.discard(page)
    victims = tiered.device.writeback.cleaner.victims
    best = victims.choose()
    find_parameter("cleaning_policy").set(tiered.device, "one")
    assert victims.choose() == policy.offered[-1].segment != best
    assert policy.offered[0].segment == best
