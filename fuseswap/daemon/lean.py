"""Less memory for processes whose every page is locked: worker, standby, supervisor.  And for
commands, which start where memory is short.

trio imports ssl, idna and more, which a worker never uses: 1.6 MB in each.  shutil, which a
supervisor needs once at its end, brings three libraries of compression: 0.5 MB in each.
Importing this module first puts a stand-in in their place, which loads the module at the first
use.  Those that are loaded already stay.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import sys
from types import ModuleType
from typing import Any

UNUSED = ("ssl", "idna", "hmac", "hashlib", "tempfile", "shutil")


def postpone(name: str) -> None:
    """Have ``import name`` cost nothing until something of it is used."""
    if name in sys.modules:
        return
    stand_in = ModuleType(name)

    def load(attribute: str) -> Any:
        if attribute.startswith("__"):  # those who look at every module use none
            raise AttributeError(attribute)
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        stand_in.__dict__.update(importlib.import_module(name).__dict__)
        return stand_in.__dict__[attribute]

    stand_in.__dict__["__getattr__"] = load
    sys.modules[name] = stand_in


def trim() -> None:
    """Give back what imports left behind, before it is locked."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


for unused in UNUSED:
    postpone(unused)
