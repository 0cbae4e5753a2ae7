"""Policies of plugins in a simulation: those that are installed, each time new ones.

What they learned from one configuration would change the next.  They take no time, since the time
on the wall is not the same twice.
"""

from __future__ import annotations

from typing import Any

from fuseswap.filesystem.plugged import Plugged
from fuseswap.plugins import entry_points
from fuseswap.plugins.health import PluginHealth
from fuseswap.reclaim.policy import GuardedPolicy


def guarded(name: str, policy: Any, label: str) -> GuardedPolicy:
    """``policy`` behind a guard whose clock stands still."""
    health = PluginHealth("policy", name, label, "the default")
    return GuardedPolicy(policy, health, lambda: 0.0)


def load_policies() -> Plugged:
    """All that load; one that does not is logged and left out."""
    found = entry_points.load_all("policy", lambda one: guarded(one.name, one.make(), str(one)))
    return Plugged(policies=tuple(found))
