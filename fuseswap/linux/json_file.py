"""A file of JSON that a reader sees as it was or as it is, never half of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace ``path`` in one step."""
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.rename(path)
