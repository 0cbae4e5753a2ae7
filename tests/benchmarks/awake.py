"""Keep idle processors from going to sleep, for as long as something short is timed.

On a virtual machine waking a sleeping processor costs 10 to 20 us, but only where it slept
for longer than the host polls: a reply 4 us later may arrive 20 us later.  One process for
each processor that does nothing, at SCHED_IDLE, gives way to anything else at once.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

_SPIN = "import os; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"


@contextlib.contextmanager
def awake() -> Iterator[None]:
    """All processors are busy with nothing meanwhile."""
    spinners = [
        subprocess.Popen((sys.executable, "-c", _SPIN), start_new_session=True)
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
        for spinner in spinners:
            spinner.wait()
