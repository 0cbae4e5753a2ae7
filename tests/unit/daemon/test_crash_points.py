"""A worker is killed at every step of everything it does; the next one loses nothing.

What a step may leave is in docs/concurrency.md, and the marked lines are those steps.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest

import fuseswap
from fuseswap.codecs.registry import CodecRegistry
from fuseswap.daemon import crash_points
from fuseswap.errors import InvalidArgument
from tests.support.crash_scenes import IN_PLACE, SCENES, TIERLESS, TWO_TIERS
from tests.support.crashes import (
    Aftermath,
    Scene,
    SharedPlaces,
    SharedTier,
    Stage,
    die_before,
    in_child,
    perform,
    turning_points,
)
from tests.support.effort import EFFORT, scaled
from tests.support.foreign_codec import Deflate
from tests.support.memory_stores import SharedMemory
from tests.support.tiered_devices import EXTENTS, TIERED, Tiered


class Left(Enum):
    """What a page that is being changed is found as."""

    OLD = "old"
    HOLE = "hole"
    NEW = "new"


OLD, HOLE, NEW = Left

# The scene in which a worker dies just before the marked line, and what it leaves.
POINTS = {
    "store-allocate": ("store_in_new_cluster", OLD),
    "store-clear": ("overwrite", OLD),
    "share-mark": ("overwrite_with_a_duplicate", HOLE),
    "share-done": ("overwrite_with_a_duplicate", HOLE),
    "store-append": ("overwrite", HOLE),
    "append-owner": ("overwrite", HOLE),
    "append-payload": ("overwrite", HOLE),
    "append-tail": ("overwrite", HOLE),
    "append-count": ("overwrite", HOLE),
    "store-commit": ("overwrite", HOLE),
    "store-count": ("store_in_hole", NEW),
    "store-release": ("overwrite", NEW),
    "further-commit": ("overwrite_whose_old_version_has_the_last_room", HOLE),
    "back-commit": ("partial_of_page_on_tier", OLD),
    "late-commit": ("overwrite_that_goes_to_its_place", HOLE),
    "refuse-clear": ("refused_partial", OLD),
    "refuse-release": ("refused_partial", HOLE),
    "backend-add": ("backend_that_comes", OLD),
    "backend-remove": ("backend_that_is_drained", NEW),
    "move-commit": ("backend_that_is_drained", NEW),
    "move-release": ("backend_that_is_drained", NEW),
    "load-mark": ("load", NEW),
    "open-frame-taken": ("overwrite_in_next_segment", HOLE),
    "seal-time": ("overwrite_in_next_segment", HOLE),
    "seal-commit": ("overwrite_in_next_segment", HOLE),
    "seal-done": ("overwrite_in_next_segment", HOLE),
    "open-tail": ("overwrite_in_next_segment", HOLE),
    "open-sequence": ("overwrite_in_next_segment", HOLE),
    "open-commit": ("overwrite_in_next_segment", HOLE),
    "open-done": ("overwrite_in_next_segment", HOLE),
    "free-commit": ("overwrite_of_last_in_segment", NEW),
    "free-done": ("overwrite_of_last_in_segment", NEW),
    "free-frame": ("overwrite_of_last_in_segment", NEW),
    "free-extent": ("discard_of_extent", NEW),
    "discard-clear": ("partial_to_zeros", OLD),
    "discard-retire": ("partial_to_zeros", NEW),
    "discard-release": ("partial_to_zeros", NEW),
    "discard-area-clear": ("discard_of_extent", OLD),
    "discard-area-release": ("discard_of_extent", NEW),
    "cluster-release": ("discard_of_extent", NEW),
    "header-copy": ("setting_a_policy", NEW),
    "relocate-read": ("relocation_to_another_tier", NEW),
    "relocate-write": ("writeback", NEW),
    "relocate-written": ("writeback", NEW),
    "relocate-back": ("relocation_into_memory", NEW),
    "relocate-undone": ("writeback_that_fails", NEW),
    "flip-dictionaries": ("writeback_of_pages_with_dictionaries", NEW),
    "flip-commit": ("writeback", NEW),
    "flip-frame": ("writeback", NEW),
    "flip-extent": ("relocation_to_another_tier", NEW),
    "place-write": ("overwrite_that_goes_to_its_place", HOLE),
    "place-written": ("overwrite_that_goes_to_its_place", HOLE),
    "place-commit": ("eviction_in_place", NEW),
    "place-release": ("eviction_in_place", NEW),
    "clean-commit": ("cleaning", NEW),
    "clean-done": ("cleaning", NEW),
    "clean-release": ("cleaning", NEW),
    "merge-commit": ("merging", NEW),
    "merge-release": ("merging_of_the_last_in_a_segment", NEW),
    "recompress-mark": ("recompression_that_gains_nothing", NEW),
    "dictionary-commit": ("recompression_with_a_dictionary", NEW),
    "dictionary-drop": ("dictionary_that_goes", NEW),
    "dictionary-punch": ("dictionary_that_goes", NEW),
}

# Python 3.12 warns of a fork beside other threads (xdist has one); the child does without them.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

MOST_DEATHS = scaled(25)  # in one scene; of more, so many are drawn


@dataclass(frozen=True, slots=True)
class Set:
    """A scene with what it is played on."""

    scene: Scene
    stage: Stage
    aftermath: Aftermath

    def die_at(self, point: str) -> int:
        """Exit code of a child that is told to die at ``point``."""

        def body() -> None:
            crash_points.arm(point)
            perform(self.scene)

        return in_child(body)[0]


@pytest.fixture
def tier() -> Iterator[SharedTier]:
    tier = SharedTier(EXTENTS)
    yield tier
    tier.close()


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    memory = SharedMemory(TIERED)
    yield memory
    memory.close()


@pytest.fixture
def places() -> Iterator[SharedPlaces]:
    places = SharedPlaces(TIERED.page_count)
    yield places
    places.close()


@pytest.fixture
def prepare(memory: SharedMemory, tier: SharedTier, places: SharedPlaces) -> Callable[[str], Set]:
    def prepare(name: str) -> Set:
        backing = places if name in IN_PLACE else tier
        if name in TWO_TIERS:
            tier.second = SharedTier(EXTENTS, "second")
        scene = SCENES[name](Tiered(memory, None if name in TIERLESS else backing))
        return Set(scene, Stage(memory, backing), Aftermath(scene, backing))

    return prepare


@pytest.mark.parametrize("name", sorted(SCENES)[:: max(1, round(EFFORT**-1.5))])
def test_whenever_it_dies(name: str, prepare: Callable[[str], Set]) -> None:
    played = prepare(name)
    points = turning_points(played.scene, played.stage)
    if len(points) > MOST_DEATHS:
        points = sorted(random.Random(name).sample(points, MOST_DEATHS))
    for number in points:
        played.stage.restore()
        die_before(played.scene, number)
        played.aftermath.look()


def test_parameters_are_the_old_ones_until_they_are_the_new(
    memory: SharedMemory, tier: SharedTier
) -> None:
    worker = Tiered(memory, tier)
    for value in ("1", "2", "3"):
        worker.device.state.parameters = {"pool_limit_bytes": value}

    async def change(worker: Tiered) -> None:
        worker.device.state.parameters = {"pool_limit_bytes": "4", "compressor": "zstd:1"}

    scene, stage = Scene(worker, change, {}), Stage(memory, tier)
    found = []
    for number in turning_points(scene, stage):
        stage.restore()
        die_before(scene, number)
        found.append(memory.attach().parameters)
    old, new = {"pool_limit_bytes": "3"}, {"pool_limit_bytes": "4", "compressor": "zstd:1"}
    first_new = found.index(new)  # the first copy is written by then, the second is not
    assert found == [old] * first_new + [new] * (len(found) - first_new)
    assert first_new > 0
    stage.restore()
    perform(scene)
    assert memory.attach().parameters == new


def test_a_name_of_a_codec_is_there_or_not(memory: SharedMemory, tier: SharedTier) -> None:
    """Wherever its registration ends, the next one gives it its number."""
    scene, stage = SCENES["registration_of_a_codec"](Tiered(memory, tier)), Stage(memory, tier)
    found = []
    for number in turning_points(scene, stage):
        stage.restore()
        die_before(scene, number)
        found.append(memory.attach().codec_names)
        assert CodecRegistry.of(memory.attach(), [Deflate()]).names[2:] == ["deflate"]
        assert memory.attach().codec_names == {9: "deflate"}
    assert found[0] == {}
    assert all(names in ({}, {9: "deflate"}) for names in found)


@pytest.mark.parametrize("point", POINTS)
def test_at_a_named_point(point: str, prepare: Callable[[str], Set]) -> None:
    name, left = POINTS[point]
    played = prepare(name)
    assert played.die_at(point) == -signal.SIGKILL
    before, after = played.scene.worker.expected, played.scene.after
    kept = {OLD: before, HOLE: {}, NEW: after}[left]
    assert played.aftermath.look() == [kept.get(page) for page in played.aftermath.changing]


def test_every_point_has_a_scene_and_a_name_of_its_own() -> None:
    package = Path(fuseswap.__file__).parent
    sources = [
        path.read_text() for path in package.rglob("*.py") if path != Path(crash_points.__file__)
    ]
    assert crash_points.find().keys() == POINTS.keys()
    assert sum(source.count("# crash point: ") for source in sources) == len(POINTS)


def test_a_count_says_at_which_time(prepare: Callable[[str], Set]) -> None:
    played = prepare("discard_of_clusters")
    assert played.die_at("discard-area-clear:2") == -signal.SIGKILL
    found = played.aftermath.look()
    assert found.count(None) == 2 < len(found), "those of the first cluster"


@pytest.mark.parametrize("chosen", ["", "cluster-release", "discard-area-release:21"])
def test_a_point_that_is_not_reached_changes_nothing(
    chosen: str, prepare: Callable[[str], Set]
) -> None:
    played = prepare("discard")
    assert played.die_at(chosen) == 0


@pytest.mark.parametrize("chosen", ["nowhere", "store-clear:0", "store-clear:x", ":2"])
def test_a_point_that_does_not_exist(chosen: str) -> None:
    with pytest.raises(InvalidArgument, match=f"FUSESWAP_CRASH_POINT={chosen} "):
        crash_points.arm(chosen)


def test_a_point_in_a_compiled_module_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "some.py"
    source.touch()
    (tmp_path / "some.cpython-311.so").touch()
    monkeypatch.setattr(crash_points, "find", lambda: {"some-point": (str(source), 1)})
    with pytest.raises(InvalidArgument, match="compiled module"):
        crash_points.arm("some-point")
