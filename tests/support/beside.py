"""Which tests of real devices may run beside others, in a second pytest: ``scripts/test``.

A device whose swap is on takes the cold pages of any process, also those of another test's device,
so two such tests disturb each other.  Neither can a test share the machine that asks which swap
is on, or changes what the machine has one of: settings of the kernel, links in ``/usr/local/bin``.
All these run one after the other.

A test is one of them unless it has the mark ``no_swap``.  Marked is a test that looks at its own
devices, mounts, loop devices and processes alone, and never switches a swap on: its PATH begins
with a ``swapon`` that refuses.  Not with groups of pytest-xdist: 3.8 has none with pytest 9.2.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

MARK = "no_swap"
_DIRECTORIES = {"mount", "system"}
_TOOLS = str(Path(__file__).parent / "no_swap_tools")


def uses_real_devices(item: pytest.Item) -> bool:
    """Whether the test is of a directory whose tests mount."""
    return item.path.parent.name in _DIRECTORIES


def prepare_path(item: pytest.Item) -> None:
    """Before the fixtures of a test: whether it and its children find the true ``swapon``."""
    if uses_real_devices(item):
        found = [part for part in os.environ["PATH"].split(os.pathsep) if part != _TOOLS]
        if item.get_closest_marker(MARK):
            found.insert(0, _TOOLS)
        os.environ["PATH"] = os.pathsep.join(found)
