"""Programs that tests call, which ``scripts/install test`` brings."""

from __future__ import annotations

import os
import shutil
import sys


def tool(name: str) -> str:
    """Where ``name`` is: in the virtual environment, or on the PATH."""
    beside = os.path.dirname(sys.executable)
    found = shutil.which(name, path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
    assert found, f"{name} is missing; run: sudo scripts/install test"
    return found
