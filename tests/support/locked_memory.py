"""Programs that serve a swap of their own machine, and do not lock their memory by themselves.

A page of theirs that lies on that swap would wait for them.  So a library is loaded into each, and
locks all that it touches (`mlockall` with MCL_ONFAULT).
"""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

_SOURCE = """
#include <stdlib.h>
#include <sys/mman.h>
__attribute__((constructor)) static void lock(void) {
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) abort();
}
"""


@functools.cache
def locking() -> dict[str, str]:
    """Variables of the environment that have a program lock its memory."""
    directory = Path(tempfile.mkdtemp(prefix="fuseswap-locking-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    library = directory / "lock.so"
    command = ["gcc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-x", "c", "-o", str(library), "-"]
    subprocess.run(command, input=_SOURCE, text=True, check=True)
    return {"LD_PRELOAD": str(library)}
