"""What a worker can be doing when it dies: one scene for each kind of request and of work.

Each is a function that prepares a fresh worker and returns its `Scene`; a module has those of
one kind, and importing it puts them into `SCENES`.
"""

from __future__ import annotations

from tests.support.crash_scenes import backends, places, reclaim, requests, stores
from tests.support.crash_scenes.scene import IN_PLACE, SCENES, TIERLESS, TWO_TIERS

__all__ = [
    "IN_PLACE",
    "SCENES",
    "TIERLESS",
    "TWO_TIERS",
    "backends",
    "places",
    "reclaim",
    "requests",
    "stores",
]
