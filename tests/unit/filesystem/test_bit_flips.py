"""A bit that turns over is found, or does no harm; no page is ever served wrong."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from fuseswap.units import PAGE_SIZE
from tests.support.effort import scaled
from tests.support.flipped_bits import Damage, Outcome

pytestmark = pytest.mark.slow

# Layout and region: how many single flips, and what may come of them.
SINGLE = {
    ("memory", "arena"): (200, {"detected", "harmless"}),  # room that is free
    ("memory", "slots"): (150, {"detected"}),
    ("memory", "segments"): (150, {"harmless"}),  # put right
    ("memory", "header"): (150, {"harmless"}),  # there is a second copy
    ("memory", "dictionaries"): (60, {"detected", "harmless"}),  # a worker that runs has its own
    ("memory", "index"): (50, {"harmless"}),  # compared before it is used
    ("tier", "arena"): (60, {"detected", "harmless"}),
    ("tier", "slots"): (50, {"detected"}),
    ("tier", "segments"): (150, {"harmless"}),
    ("tier", "backing"): (100, {"detected", "harmless"}),  # stored over meanwhile
    ("in-place", "slots"): (50, {"detected"}),
    ("in-place", "backing"): (50, {"detected", "harmless"}),
}
# Two flips in one 64-bit word.
DOUBLE = {("memory", "slots"): 80, ("tier", "slots"): 80, ("in-place", "slots"): 40}
DOUBLE_IN_HEADER = 100
DOUBLE_IN_TABLE = {("memory", "segments"): 50, ("tier", "segments"): 50}

MakeDamage = Callable[[str], Damage]


@pytest.fixture
def make_damage() -> Iterator[MakeDamage]:
    logging.disable()  # a line for each page that is found corrupt
    made: list[Damage] = []

    def make(layout: str) -> Damage:
        made.append(Damage(layout))
        return made[-1]

    yield make
    for damage in made:
        damage.close()
    logging.disable(logging.NOTSET)


def tried(
    damage: Damage, region: str, count: int, draw: Callable[[str, random.Random], list[int]]
) -> list[tuple[list[int], Outcome]]:
    """Bits that turned over, and what came of it, ``count`` times."""
    chance = random.Random(f"{region} {count}")
    flips = [draw(region, chance) for _ in range(scaled(count))]
    return [(bits, damage.try_flip(region, bits, chance)) for bits in flips]


def serious(found: list[tuple[list[int], Outcome]]) -> list[str]:
    return [
        f"bits {bits}: {outcome.crash or f'{len(outcome.wrong)} pages served wrong'}"
        for bits, outcome in found
        if outcome.verdict in ("wrong", "crash")
    ]


def test_there_are_a_thousand() -> None:
    assert sum(count for count, _ in SINGLE.values()) >= 1000
    assert sum(DOUBLE.values()) >= 200


@pytest.mark.parametrize(("layout", "region"), SINGLE)
def test_one_bit(make_damage: MakeDamage, layout: str, region: str) -> None:
    count, verdicts = SINGLE[layout, region]
    damage = make_damage(layout)
    found = tried(damage, region, count, damage.draw)
    assert serious(found) == []
    verdict = Counter(outcome.verdict for _, outcome in found).keys()
    assert verdict <= verdicts
    assert ("detected" in verdict) == ("detected" in verdicts)


@pytest.mark.parametrize(("layout", "region"), DOUBLE)
def test_two_bits_of_a_slot_word(make_damage: MakeDamage, layout: str, region: str) -> None:
    """Whichever they are: also where raw objects lie at offsets that differ in two bits."""
    damage = make_damage(layout)
    found = tried(damage, region, DOUBLE[layout, region], damage.draw_two)
    assert serious(found) == []
    assert {outcome.verdict for _, outcome in found} == {"detected"}


@pytest.mark.parametrize(("layout", "region"), DOUBLE_IN_TABLE)
def test_two_bits_of_the_segment_table(make_damage: MakeDamage, layout: str, region: str) -> None:
    """Nobody knows then where a segment is: its pages are corrupt, all others are right."""
    damage = make_damage(layout)
    found = tried(damage, region, DOUBLE_IN_TABLE[layout, region], damage.draw_two)
    assert serious(found) == []
    assert {outcome.verdict for _, outcome in found} <= {"detected", "harmless"}


def test_two_bits_of_the_header(make_damage: MakeDamage) -> None:
    """One copy is sound, or no worker attaches."""
    damage = make_damage("memory")
    found = tried(damage, "header", DOUBLE_IN_HEADER, damage.draw_two)
    assert {outcome.verdict for _, outcome in found} == {"harmless"}
    in_both = damage.try_flip("header", [129, 8 * PAGE_SIZE + 137], random.Random(0))
    assert in_both.crash.startswith("StateMismatch: ")
