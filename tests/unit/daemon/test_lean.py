"""Imports that cost nothing until something of them is used."""

from __future__ import annotations

import importlib
import sys

from fuseswap.daemon import lean

NAME = "colorsys"


def test_a_module_is_loaded_at_its_first_use() -> None:
    sys.modules.pop(NAME, None)
    lean.postpone(NAME)
    stand_in = importlib.import_module(NAME)
    assert not hasattr(stand_in, "__file__")
    assert "rgb_to_hsv" not in vars(stand_in)
    assert stand_in.rgb_to_hsv(0, 0, 0) == (0, 0, 0)
    assert sys.modules[NAME].__file__
    assert "hsv_to_rgb" in vars(stand_in)


def test_one_that_is_loaded_stays() -> None:
    before = sys.modules["sys"]
    lean.postpone("sys")
    assert sys.modules["sys"] is before
