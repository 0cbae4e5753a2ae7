"""How a number gets its name: it is declared where it is counted, as a field of a dataclass.

    @dataclass(slots=True)
    class TransportCounters:
        requests: int = counter("FUSE requests answered.")

That line is the counter, the file in ``stats/``, the family in ``metrics``, the key in
``status --json`` and the row in ``docs/statistics.md``.  Such a class is a *part*.  It is
an object of counters that are added to (made by `zeros`), or a snapshot, taken when it is
read.  `numbers_of` makes the mapping of a part; nothing is made while something is counted.
A field that is declared with neither `counter` nor `gauge` is no statistic.

Where there are several of a kind (codecs, backends) each has an object of its own, and the
label is a field of it:

    @dataclass(slots=True)
    class BackendCounters:
        backend: str
        backend_stores: int = counter("Pages each backend took.", labels=("backend",))

``statistics.py`` lists the parts, and `arrange` makes one table of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, TypeVar

# A name, or a name and the values of its labels.
Key = str | tuple[str, tuple[str, ...]]
# The values of the labels, and the number.
Sample = tuple[tuple[str, ...], int]

_Part = TypeVar("_Part")

# Of each class that was asked for, once.
_rows: dict[type, tuple[tuple[str, Statistic], ...]] = {}


class Kind(Enum):
    """A counter only grows (until the worker restarts); a gauge is a level."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Statistic:
    """One row of the table.  ``like`` says who else has that name: zswap, zram or frontswap.

    ``labels``: their names, where there is one number for each codec, or backend, or the like.
    ``after``: the row of another part that this one, and those below it, stand behind.
    """

    name: str
    kind: Kind
    unit: str
    like: str
    help: str
    labels: tuple[str, ...] = ()
    after: str = ""


def counter(
    help_: str, *, name: str = "", like: str = "", labels: tuple[str, ...] = (), after: str = ""
) -> Any:
    """A field that only grows.  ``name``: for people, where the field has another."""
    return _declare(Statistic(name, Kind.COUNTER, "", like, help_, labels, after))


def gauge(
    unit: str,
    help_: str,
    *,
    name: str = "",
    like: str = "",
    labels: tuple[str, ...] = (),
    after: str = "",
) -> Any:
    """A field that is a level, in ``unit``."""
    return _declare(Statistic(name, Kind.GAUGE, unit, like, help_, labels, after))


def _declare(row: Statistic) -> Any:
    return field(metadata={Statistic: row})  # no default: a snapshot that lacks one is no snapshot


def _declared(part: type) -> tuple[tuple[str, Statistic], ...]:
    """The fields of ``part`` that are statistics, with their rows."""
    if part not in _rows:
        declared = ((one.name, one.metadata.get(Statistic)) for one in fields(part))
        _rows[part] = tuple(
            (name, replace(row, name=row.name or name)) for name, row in declared if row
        )
    return _rows[part]


def rows_of(part: type) -> tuple[Statistic, ...]:
    """What the dataclass ``part`` declares, in order."""
    return tuple(row for _, row in _declared(part))


def numbers_of(part: Any) -> dict[Key, int]:
    """What an object of such a class has now, by name; by name and labels where it has some."""
    return {
        (row.name, tuple(getattr(part, label) for label in row.labels))
        if row.labels
        else row.name: getattr(part, attribute)
        for attribute, row in _declared(type(part))
    }


def zeros(part: type[_Part], **others: object) -> _Part:
    """An object of counters that begin at 0; ``others``: its fields that are no statistics."""
    counters: dict[str, Any] = {attribute: 0 for attribute, _ in _declared(part)}
    return part(**counters, **others)


def arrange(parts: Iterable[type]) -> tuple[Statistic, ...]:
    """One table of all parts.  A ValueError for a name that is there twice, or unknown ``after``.

    The rows of a part follow each other, in the place that the nearest ``after`` above says.
    """
    table: list[Statistic] = []
    for part in parts:
        at = len(table)
        for row in rows_of(part):
            names = [one.name for one in table]
            if row.name in names:
                raise ValueError(f"there are two statistics '{row.name}'")
            if row.after:
                at = names.index(row.after) + 1
            table.insert(at, row)
            at += 1
    return tuple(table)


def samples_by_name(numbers: Mapping[Key, int]) -> dict[str, list[Sample]]:
    """``numbers``, those of one name together; without labels that is one, and its values ()."""
    found: dict[str, list[Sample]] = {}
    for key, number in numbers.items():
        if isinstance(key, str):
            found[key] = [((), number)]
        else:
            found.setdefault(key[0], []).append((key[1], number))
    return found


def file_name(name: str, values: tuple[str, ...]) -> str:
    """Of a sample: ``NAME``, or ``NAME.VALUE`` with all values in order.

    A slash is no part of a file's name, so it is ``%2F``.
    """
    quoted = (value.replace("%", "%25").replace("/", "%2F") for value in values)
    return ".".join((name, *quoted))
