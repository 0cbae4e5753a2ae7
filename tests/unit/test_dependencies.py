"""``constraints.txt``: every package that is needed, in one version, with its hashes."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "constraints.txt").read_text()
TO_RUN, _, FOR_TESTS = TEXT.partition("# For tests.\n")
_LINE = re.compile(r"([A-Za-z0-9._-]+)==(\S+?)( ;.*)? \\$")
_HASH = re.compile(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?$")


class Pin(NamedTuple):
    """One package."""

    name: str
    version: str
    hashes: int


def pins(text: str) -> dict[str, Pin]:
    found: dict[str, Pin] = {}
    last = ""
    for line in text.splitlines():
        if match := _LINE.match(line):
            last = canonicalize_name(match[1])
            found[last] = Pin(last, match[2], 0)
        elif line and not line.startswith("#"):
            assert _HASH.match(line), line
            found[last] = found[last]._replace(hashes=found[last].hashes + 1)
    return found


def needed(requirements: list[str]) -> set[str]:
    """Names of these, and of all that they need here."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        one = waiting.pop()
        extras = ["", *one.extras]
        if one.marker and not any(one.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        name = canonicalize_name(one.name)
        if name not in found:
            found.add(name)
            waiting += map(Requirement, metadata.requires(name) or [])
    return found


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("pin", pins(TEXT).values(), ids=lambda pin: str(pin.name))
def test_each_has_a_hash(pin: Pin) -> None:
    assert pin.hashes > 0


def test_the_first_part_is_enough_to_run() -> None:
    assert needed([*PROJECT["dependencies"], "setuptools"]) <= set(pins(TO_RUN))


def test_both_are_enough_for_tests() -> None:
    extras = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
    assert needed(extras) <= set(pins(TEXT))


def test_what_is_installed_is_what_is_pinned() -> None:
    found = {name: metadata.version(name) for name in pins(TEXT)}
    assert found == {name: pin.version for name, pin in pins(TEXT).items()}
