"""Models that draw steps at random: how hard they try, and how one run is played."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import trio
from hypothesis import HealthCheck, Phase, settings
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.effort import scaled
from tests.support.memory_stores import SharedMemory
from tests.support.tiered_devices import TIERED

Step = tuple[object, ...]  # the name of a rule, and its arguments

model_settings = settings(
    max_examples=scaled(200),
    deadline=None,
    derandomize="CI" in os.environ,
    phases=set(Phase) - {Phase.explain},
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Model(Protocol):
    """A device beside what should be in it; its rules are methods."""

    async def check(self) -> None:
        """After each step."""

    async def settle(self) -> None:
        """After the last one."""


def play(
    make: Callable[[SharedMemory, trio.Nursery, MockClock], Model],
    drawn: Sequence[Step],
    rules: Mapping[str, str] = {},
) -> None:
    """Carry out ``drawn`` on a fresh model; ``rules`` has methods that are named otherwise."""
    clock = MockClock()
    memory = SharedMemory(TIERED)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            model = make(memory, nursery, clock)
            for name, *arguments in drawn:
                rule: Callable[..., Awaitable[None]] = getattr(
                    model, rules.get(str(name), str(name))
                )
                await rule(*arguments)
                await wait_all_tasks_blocked()
                await model.check()
            await model.settle()
            nursery.cancel_scope.cancel()

    try:
        trio.run(main, clock=clock)
    finally:
        memory.close()
