"""Why a device is not well: below the table of ``status``, or beside it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from fuseswap.cli.parser import complaint


def tell_reasons(lines: list[str], statuses: Sequence[dict[str, Any]], *, aside: bool) -> None:
    """Add reasons, what the log says and warnings to ``lines``.

    ``aside``: a script would take them for words of the table, so they go to standard error.
    """
    said: list[str] = []
    for status in statuses:
        if status["reason"]:
            said.append(f"{status['name']}: {status['reason']}")
            said += [f"  {line}" for line in status["log"]]
        said += [f"{status['name']}: {warning}" for warning in status["warnings"]]
    if not aside:
        lines += said
        return
    for line in said:
        print(complaint(line), file=sys.stderr)
