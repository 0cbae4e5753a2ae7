"""Tests, layered by cost: ``unit`` mounts nothing, ``mount`` and ``system`` need root."""
