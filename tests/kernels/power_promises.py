"""What is promised of each file at a cut, from the moments before it.  Pure: marks in, states out.

    (absent)  --blank, empty-->  BLANK  --up-->  CLAIMED  --down-->  BLANK     a person's file
    ABSENT  --up, tier add-->  CLAIMED  --down, tier remove-->  ABSENT         one that was made

While a command is on its way the file is in one of both states.  One that is being made may be
there before its claim is, blank and in its whole size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

ABSENT, BLANK, CLAIMED = "absent", "blank", "claimed"
_USES = ("up", "add")
_ENDS = ("down", "remove")


@dataclass(frozen=True, slots=True)
class Promise:
    """``states``: what the file may be in; ``device``: whose, where it is claimed."""

    states: frozenset[str] = frozenset({ABSENT})
    device: str = ""
    made: bool = True
    encrypt: bool = True


def promises(marks: Iterable[dict[str, Any]]) -> dict[str, Promise]:
    """Of each file that the marks name."""
    found: dict[str, Promise] = {}
    for mark in marks:
        what, file, over = mark["what"], mark["file"], mark["is"] == "end"
        if what in ("blank", "empty"):
            states = {BLANK} if over else {ABSENT, BLANK}
            found[file] = Promise(frozenset(states), made=False)
        elif what in _USES:
            was = found.get(file, Promise())
            states = (
                {CLAIMED} if over else {ABSENT, BLANK, CLAIMED} if was.made else {BLANK, CLAIMED}
            )
            found[file] = replace(
                was, states=frozenset(states), device=mark["device"], encrypt=mark["encrypt"]
            )
        elif what in _ENDS:
            for name in [file] if file else _of(found, mark["device"]):
                end = ABSENT if found[name].made else BLANK
                states = {end} if over else {end, CLAIMED}
                device = "" if over else mark["device"]
                found[name] = replace(found[name], states=frozenset(states), device=device)
    return found


def _of(found: dict[str, Promise], device: str) -> list[str]:
    return [name for name, one in found.items() if one.device == device]


def is_kept(promise: Promise | None, state: str, device: str, made: bool) -> str:
    """What is wrong with a file in that state, of that device; empty where nothing is."""
    promise = promise or Promise()
    if state not in promise.states:
        return f"is {state}, not {' or '.join(sorted(promise.states))}"
    if state != CLAIMED:
        return ""
    if device != promise.device:
        return f"is of '{device}', not '{promise.device}'"
    return "" if made == promise.made else f"is{'' if made else ' not'} one that was made"
