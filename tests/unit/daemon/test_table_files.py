"""A command that looks at the tables of a device."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

# As with a worker of which all is found; it prints the limit of a core dump.
_LOOKS = """
import resource
from fuseswap.daemon import table_files
from fuseswap.daemon.runtime_dir import Runtime
table_files._open = lambda runtime, opened: [3, 4, 5]
table_files.TableView = lambda *fds: fds
with table_files.table_view(Runtime("some")) as view:
    print(view, resource.getrlimit(resource.RLIMIT_CORE)[0])
"""


def test_it_leaves_no_core_dump() -> None:
    """The header, which it has open, has the key."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        pytest.skip("there are no core dumps here")
    command = ["sh", "-c", 'ulimit -S -c 2048; exec "$@"', "sh", sys.executable, "-c", _LOOKS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "(3, 4, 5) 1\n"
