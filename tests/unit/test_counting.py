"""How statistics are declared: fields, labels, and one table of all parts."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass

import pytest

from fuseswap.counting import (
    Kind,
    Statistic,
    arrange,
    counter,
    file_name,
    gauge,
    numbers_of,
    rows_of,
    samples_by_name,
    zeros,
)


@dataclass(slots=True)
class Kitchen:
    chairs: int  # no statistic
    meals: int = counter("Meals served.", like="zram")
    heat: int = gauge("kelvin", "How hot it is.", name="kitchen_heat")


@dataclass(slots=True)
class Guests:
    table: str
    seat: str
    spoons: int = counter("Spoons used.", labels=("table", "seat"))


def part(*rows: tuple[str, str]) -> type:
    """A part with gauges: name, and the one it stands behind."""
    return make_dataclass(
        "Part", [(name, int, gauge("pages", "Of a test.", after=after)) for name, after in rows]
    )


def names(*parts: type) -> list[str]:
    return [row.name for row in arrange(parts)]


def test_rows_are_the_fields_that_are_declared() -> None:
    assert rows_of(Kitchen) == (
        Statistic("meals", Kind.COUNTER, "", "zram", "Meals served."),
        Statistic("kitchen_heat", Kind.GAUGE, "kelvin", "", "How hot it is."),
    )


def test_a_counter_is_an_attribute_of_a_slotted_object() -> None:
    kitchen = zeros(Kitchen, chairs=4)
    kitchen.meals += 2
    assert numbers_of(kitchen) == {"meals": 2, "kitchen_heat": 0}
    assert kitchen.chairs == 4
    assert not hasattr(kitchen, "__dict__")


def test_a_snapshot_that_lacks_one_is_refused() -> None:
    with pytest.raises(TypeError, match="meals"):
        Kitchen(chairs=4, heat=300)


def test_labels_are_fields_of_the_object() -> None:
    one, two = zeros(Guests, table="round", seat="1"), zeros(Guests, table="round", seat="2")
    two.spoons += 3
    numbers = {**numbers_of(one), **numbers_of(two), **numbers_of(zeros(Kitchen, chairs=0))}
    assert numbers[("spoons", ("round", "2"))] == 3
    assert samples_by_name(numbers) == {
        "spoons": [(("round", "1"), 0), (("round", "2"), 3)],
        "meals": [((), 0)],
        "kitchen_heat": [((), 0)],
    }


def test_parts_follow_each_other() -> None:
    assert names(part(("a", ""), ("b", "")), part(("c", ""))) == ["a", "b", "c"]


def test_a_row_may_stand_behind_that_of_another_part() -> None:
    first = part(("a", ""), ("b", ""), ("c", ""))
    second = part(("x", "a"), ("y", ""), ("z", "c"))
    third = part(("m", "x"))
    assert names(first, second, third) == ["a", "x", "m", "y", "b", "c", "z"]


@pytest.mark.parametrize("other", [part(("b", ""), ("a", "")), part(("b", "nothing"))])
def test_a_name_twice_and_an_unknown_place_are_refused(other: type) -> None:
    with pytest.raises(ValueError, match=r"two statistics 'a'|'nothing'"):
        arrange([part(("a", "")), other])


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((), "loads"),
        (("lz4",), "loads.lz4"),
        (("a", "b c"), "loads.a.b c"),
        (("/dev/sdb",), "loads.%2Fdev%2Fsdb"),
        (("%2F",), "loads.%252F"),
        (("..",), "loads..."),
    ],
)
def test_names_of_files(values: tuple[str, ...], name: str) -> None:
    assert file_name("loads", values) == name
