"""What requests leave behind: garbage that only the collector finds, and containers that grow.

The worker runs with the collector off and all its memory locked, so there must be neither.
"""

from __future__ import annotations

import gc
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

import trio

_Flat = array | bytearray  # type: ignore[type-arg]
_Containers = list | dict | set | deque  # type: ignore[type-arg]


class Garbage:
    """Counts, by type, what reference counting has not freed since it was last asked."""

    def found(self) -> Counter[str]:
        """Names of types; as long as nothing is found, nothing is lost by asking."""
        gc.collect()
        names = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
        gc.garbage.clear()
        return names

    def drop(self) -> None:
        """What is garbage now is meant to be: a whole device that is not used any more."""
        gc.set_debug(0)
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)


@contextmanager
def collector_off() -> Iterator[Garbage]:
    """As in the worker; what `Garbage.found` looks at is never collected by itself.

    Frozen is what there is already, as the errors of another test that has failed.
    """
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield Garbage()
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def containers(*roots: object) -> dict[str, int]:
    """The longest container of each attribute of fuseswap's objects, by ``Class.attribute``.

    Looked at is all that ``roots`` lead to, through attributes, containers, and functions with
    what they hold; module globals and the objects of other packages are not.
    """
    longest: dict[str, int] = {}
    seen: set[int] = set()
    left: list[tuple[str, Any]] = [("", root) for root in roots]
    while left:
        name, one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, _Flat | _Containers):
            longest[name] = max(longest.get(name, 0), len(one))
        if isinstance(one, _Containers | tuple | frozenset):
            inside = [*one.keys(), *one.values()] if isinstance(one, Mapping) else list(one)
            left += [(f"{name}[]", item) for item in inside if not isinstance(item, int | bytes)]
        elif not isinstance(one, _Flat):
            left += _held_by(name, one)
    return longest


def _held_by(name: str, one: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(one, MethodType):
        yield name, one.__self__
    elif isinstance(one, partial):
        yield from ((f"{name}()", each) for each in (one.func, *one.args, *one.keywords.values()))
    elif closure := getattr(one, "__closure__", None):
        for cell in closure:
            if cell != type(cell)():
                yield f"{name}()", cell.cell_contents
    elif isinstance(one, trio.lowlevel.ParkingLot):
        yield name, list(one._parked)
    elif type(one).__module__.startswith("fuseswap."):
        for attribute, value in _attributes(one):
            yield f"{type(one).__name__}.{attribute}", value


def _attributes(one: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(one, "__dict__", {}).items()
    for kind in type(one).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(one, slot):
                yield slot, getattr(one, slot)


def too_long(found: Mapping[str, int], bounds: Mapping[str, int], others: int) -> dict[str, int]:
    """Those longer than their bound; one that has none may have ``others`` entries."""
    return {name: length for name, length in found.items() if length > bounds.get(name, others)}
