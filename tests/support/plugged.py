"""Plugins without packages: objects behind the guards that a worker puts them behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuseswap.codecs.guarded_codec import GuardedCodec
from fuseswap.plugins.health import PluginHealth
from fuseswap.reclaim.policy import GuardedPolicy

SUPPORT = Path(__file__).parent
EXAMPLES = SUPPORT.parent.parent / "docs" / "examples" / "fuseswap_examples"
BAD_PLUGINS = SUPPORT / "bad_plugins"


def health_of(kind: str, name: str) -> PluginHealth:
    return PluginHealth(kind, name, f"{kind} '{name}' (a-package 1.2)", "another")


def a_codec(codec: Any, **options: Any) -> GuardedCodec:
    return GuardedCodec(codec, health_of("codec", codec.name), **options)


def faults_of(codec: GuardedCodec) -> int:
    assert isinstance(codec.health, PluginHealth)
    return codec.health.counters.plugin_faults


def a_policy(policy: Any, name: str, **options: Any) -> GuardedPolicy:
    return GuardedPolicy(policy, health_of("policy", name), **options)


def ticking(*seconds: float) -> Callable[[], float]:
    """A clock by which the calls take so long, one after the other; the last for ever."""
    took = list(seconds)
    now, is_end = 0.0, True

    def clock() -> float:
        nonlocal now, is_end
        is_end = not is_end
        if is_end:
            now += took.pop(0) if len(took) > 1 else took[0]
        return now

    return clock
