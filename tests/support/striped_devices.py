"""Sets of stripes for tests: brought up by the command, and taken down whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from subprocess import TimeoutExpired
from typing import Any

from fuseswap.daemon.runtime_dir import Runtime
from fuseswap.daemon.stripe_set import StripeSet
from tests.support.mounted_devices import TestDevice, call, new_name, succeed, taken_down

_DOWN_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class TestSet:
    """A set of stripes that is up."""

    __test__ = False  # not a test class, for all its name says

    name: str
    stripes: list[TestDevice]

    def status(self) -> dict[str, Any]:
        """What ``fuseswap status NAME --json`` says."""
        found: dict[str, Any] = json.loads(succeed("status", self.name, "--json"))
        return found

    def pool_frames(self) -> tuple[int, int]:
        """What all stripes together may hold by now, and their limit, in frames."""
        table = StripeSet(self.name).table()
        try:
            return sum(row.granted for row in table.rows()), table.limit
        finally:
            table.close()


@contextmanager
def set_taken_down(name: str, count: int = 2) -> Iterator[None]:
    """For a test that brings the set ``name`` up itself."""
    with ExitStack() as stack:
        for stripe in range(count):
            stack.enter_context(taken_down(f"{name}/{stripe}"))
        try:
            yield
        finally:
            if StripeSet(name).exists():
                with suppress(TimeoutExpired):
                    call("down", name, timeout_s=_DOWN_TIMEOUT_S)
    assert not Runtime(name).directory.exists()


@contextmanager
def stripes_up(*options: str, count: int = 2) -> Iterator[TestSet]:
    """``fuseswap up --stripes``, and down for certain."""
    name = new_name()
    with set_taken_down(name, count):
        printed = succeed("up", name, "--json", "--stripes", str(count), *options)
        stripes = [
            TestDevice(info["name"], Runtime(info["name"]).default_mountpoint, "devfuse", info)
            for info in json.loads(printed)["stripes"]
        ]
        yield TestSet(name, stripes)
