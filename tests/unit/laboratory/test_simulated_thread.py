"""Recompression takes time in a simulation, for each page of a batch."""

from __future__ import annotations

import trio

from fuseswap.laboratory.simulated_thread import SimulatedThread
from fuseswap.laboratory.virtual_time import run
from fuseswap.reclaim.background_thread import BackgroundThread
from fuseswap.tiers.callbacks import await_callback


def took_s(pages: int, page_s: float) -> float:
    async def main() -> float:
        simulated = SimulatedThread(page_s)
        thread = BackgroundThread(simulated.submit)
        simulated.serve(thread)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(simulated.run)
            began = trio.current_time()
            await thread.pack(
                list(range(pages)),
                lambda word: b"",
                lambda: lambda objects, stop: [None] * len(objects),
                lambda: True,
            )
            nursery.cancel_scope.cancel()
        return trio.current_time() - began

    return run(main, 1)


def test_a_batch_takes_the_time_of_its_pages() -> None:
    assert round(took_s(64, 0.001), 6) == 0.064
    assert took_s(64, 0.0) == 0.0


def test_what_has_no_pages_takes_none() -> None:
    async def main() -> tuple[str, float]:
        simulated = SimulatedThread(1.0)
        simulated.serve(BackgroundThread(simulated.submit))
        found: str = await await_callback(lambda done: simulated.submit(lambda: "dictionary", done))
        return found, trio.current_time()

    assert run(main, 1)[0] == "dictionary"
