"""A file of JSON that a reader sees as it was or as it is, never half of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fuseswap.linux import private_files


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace ``path`` in one step; mode 0600.  Raises `OSError`."""
    private_files.replace(path, json.dumps(content, indent=1) + "\n")
