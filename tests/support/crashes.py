"""A worker that dies at a line: a child is killed there, and what it leaves is looked at.

The child is forked from a test that holds a prepared worker, over memory and a tier that
both see.  Where it was killed, the next worker is attached to what is left, checked
against what had been acknowledged, and sent the request again.  Then everything is put
back as it was, for the next line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import trio
from trio.testing import MockClock

import fuseswap
from fuseswap.store.region import Region
from fuseswap.tiers.tier_reader import TierLoad
from fuseswap.units import PAGE_SIZE, SEGMENT_BYTES, PageNumber
from tests.support.fake_tier import FakePlaceFile, FakeTier
from tests.support.log_invariants import check_invariants
from tests.support.memory_stores import SharedMemory
from tests.support.tiered_devices import Tiered

_PACKAGE = str(Path(fuseswap.__file__).parent)
_CHILD_TIMEOUT_S = 60

Act = Callable[[Tiered], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scene:
    """A worker, in whose ``expected`` is what it acknowledged, and what is asked of it next.

    ``after`` is what is stored once ``act`` is done.  With ``holes`` a page may be a hole
    between its old contents and its new ones.
    """

    worker: Tiered
    act: Act
    after: dict[int, bytes]
    holes: bool = False


class SharedTier(FakeTier):
    """A tier whose extents a child and its parent share."""

    def __init__(self, extent_count: int, name: str = "fake") -> None:
        super().__init__(extent_count, name)
        self._fd = os.memfd_create("tier", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, extent_count * SEGMENT_BYTES)
        self.region = Region(self._fd)
        for extent in range(extent_count):
            start = extent * SEGMENT_BYTES
            self.extents[extent] = self.region.buffer[start : start + SEGMENT_BYTES]

    def close(self) -> None:
        """Close the file, and that of the second one."""
        os.close(self._fd)
        if isinstance(self.second, SharedTier):
            self.second.close()


class SharedPlaces(FakePlaceFile):
    """A file of places that a child and its parent share."""

    def __init__(self, page_count: int) -> None:
        super().__init__(page_count)
        self._fd = os.memfd_create("places", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, page_count * PAGE_SIZE)
        self.region = Region(self._fd)
        self.bytes = self.region.buffer

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Stage:
    """All that outlives a worker: the bytes to go back to, and whether they have changed."""

    def __init__(self, memory: SharedMemory, tier: SharedTier | SharedPlaces) -> None:
        self._regions = {**memory.regions(), **memory.memories(), "tier": tier.region}
        if isinstance(tier, SharedTier) and isinstance(tier.second, SharedTier):
            self._regions["second tier"] = tier.second.region
        self._saved = {
            name: [(start, region.map[start:end]) for start, end in region.extents()]
            for name, region in self._regions.items()
        }
        self._extents: dict[str, tuple[int, list[tuple[int, int]]]] = {}

    def state(self) -> list[object]:
        """What is present, and the contents of all tables."""
        found: list[object] = []
        for name, region in self._regions.items():
            table = name not in ("arena", "tier", "second tier", "index", "raw0")
            for start, end in self._present(name, region):
                found.append((start, end, region.map[start:end] if table else None))
        return found

    def _present(self, name: str, region: Region) -> list[tuple[int, int]]:
        """Extents of ``region``, looked for only where the number of its blocks has changed.

        It is asked for at each line, and looking takes 20 us a MiB.
        """
        blocks = os.fstat(region.fd).st_blocks
        known = self._extents.get(name)
        if known is None or known[0] != blocks:
            known = self._extents[name] = (blocks, list(region.extents()))
        return known[1]

    def restore(self) -> None:
        """Put all of it back; what was a hole is one again."""
        for name, region in self._regions.items():
            region.punch(0, region.size_bytes)
            for start, data in self._saved[name]:
                region.map[start : start + len(data)] = data


def in_child(body: Callable[[], object]) -> tuple[int, Any]:
    """Run ``body`` in a fork; its exit code (negative: the signal) and result, as JSON has it."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_CHILD_TIMEOUT_S)
            result = json.dumps(body()).encode()
            with open(write, "wb") as pipe:
                pipe.write(result)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    with open(read, "rb") as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, json.loads(text) if text else None


def perform(scene: Scene, worker: Tiered | None = None) -> None:
    """Have ``worker`` (the scene's own by default) do what is asked, the same lines each time."""
    worker = worker or scene.worker
    worker.device.frontswap.invalidation.step_ns = 1 << 62  # steps end by what they have done
    trio.run(scene.act, worker, clock=MockClock())


def trace_lines(seen: Callable[[], None]) -> None:
    """Call ``seen`` just before each line of the package runs."""

    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            seen()
        return watch

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return watch if frame.f_code.co_filename.startswith(_PACKAGE) else None

    sys.settrace(enter)


def turning_points(scene: Scene, stage: Stage) -> list[int]:
    """Numbers of the lines before which to die, of all that the scene runs, counted from 0.

    Only what is shared outlives a worker.  So to die at any of the lines between two changes
    of a table is the same, but for what was written to the arena: the first and the last of
    them will do.
    """

    def body() -> list[int]:
        points = {0}
        count = 0
        last = stage.state()

        def seen() -> None:
            nonlocal count, last
            now = stage.state()
            if now != last:
                points.update((count - 1, count))
                last = now
            count += 1

        trace_lines(seen)
        perform(scene)
        sys.settrace(None)
        return sorted(points | {count - 1})

    code, points = in_child(body)
    assert code == 0, "the scene fails before anybody dies in it"
    found: list[int] = points
    return found


def die_before(scene: Scene, number: int) -> None:
    """Do the scene in a child that is killed before the line ``number``."""
    left = number

    def seen() -> None:
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def body() -> None:
        trace_lines(seen)
        perform(scene)

    code, _ = in_child(body)
    assert code == -signal.SIGKILL, f"line {number} is not reached"


class Aftermath:
    """Looks at what each of a series of deaths left, each later in the scene than the last."""

    def __init__(self, scene: Scene, tier: SharedTier | SharedPlaces) -> None:
        self._scene = scene
        self._tier = tier
        before, after = scene.worker.expected, scene.after
        self.changing = sorted(
            page for page in before.keys() | after.keys() if before.get(page) != after.get(page)
        )
        self._stages = {
            page: [before.get(page), *([None] if scene.holes else []), after.get(page)]
            for page in self.changing
        }

    def look(self) -> list[bytes | None]:
        """Attach, check, send again, check.  Returns what the pages in question were."""
        scene = self._scene
        worker = Tiered(scene.worker.memory, scene.worker.tier)
        check_invariants(worker.cache)
        kept = {p: d for p, d in scene.worker.expected.items() if p not in self._stages}
        self._compare(worker, kept)
        found = [self._load(worker, page) for page in self.changing]
        stored = len(kept) + len(found) - found.count(None)
        assert worker.cache.slots.stored_pages == stored
        for page, data in zip(self.changing, found, strict=True):
            stages = self._stages[page]
            while stages and stages[0] != data:
                del stages[0]
            assert stages, f"page {page} is neither old nor new, or has gone back"
        perform(scene, worker)
        check_invariants(worker.cache)
        self._compare(worker, scene.after)
        assert worker.cache.slots.stored_pages == len(scene.after)
        return found

    def _compare(self, worker: Tiered, expected: dict[int, bytes]) -> None:
        for page, data in expected.items():
            assert self._load(worker, page) == data, f"page {page}"

    def _load(self, worker: Tiered, page: int) -> bytes | None:
        try:
            return worker.device.frontswap.load(PageNumber(page))
        except TierLoad as miss:
            return miss.finish(self._tier.stored(miss))
