"""What a worker imports: not this room."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import fuseswap.daemon.worker, fuseswap.daemon.supervisor, fuseswap.transport.devfuse
print([name for name in sys.modules if name.startswith("fuseswap.laboratory")])
"""


def test_the_daemon_never_imports_the_laboratory() -> None:
    found = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
