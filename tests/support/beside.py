"""Which tests of real devices run beside each other, in two processes (pytest-xdist).

A device whose swap is on takes the cold pages of any process, also those of another test's device,
so two such tests disturb each other.  Neither can a test share the machine that asks which swap
is on, or changes what the machine has one of: settings of the kernel, links in ``/usr/local/bin``.
All these are one group, which one process runs, one after the other.

A test is in that group unless it has the mark ``no_swap``.  Marked is a test that looks at its own
devices, mounts, loop devices and processes alone, and never switches a swap on: its PATH begins
with a ``swapon`` that refuses.  Marked tests of a module stay together, as its devices serve all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

MARK = "no_swap"
_ALONE = "swap"
_DIRECTORIES = {"mount", "system"}
_TOOLS = str(Path(__file__).parent / "no_swap_tools")


def uses_real_devices(item: pytest.Item) -> bool:
    """Whether the test is of a directory whose tests mount."""
    return item.path.parent.name in _DIRECTORIES


def put_into_groups(items: Iterable[pytest.Item]) -> None:
    """For ``--dist loadgroup``; without it the groups mean nothing."""
    for item in items:
        if uses_real_devices(item):
            group = item.path.stem if item.get_closest_marker(MARK) else _ALONE
            item.add_marker(pytest.mark.xdist_group(group))


def prepare_path(item: pytest.Item) -> None:
    """Before the fixtures of a test: whether it and its children find the true ``swapon``."""
    if uses_real_devices(item):
        found = [part for part in os.environ["PATH"].split(os.pathsep) if part != _TOOLS]
        if item.get_closest_marker(MARK):
            found.insert(0, _TOOLS)
        os.environ["PATH"] = os.pathsep.join(found)
