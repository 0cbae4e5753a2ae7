"""What of fuseswap may run compiled: by mypyc, where a wheel is built with a C compiler.

Its modules are the way of a page from the swapfile to the segment log and back.  They are ordinary
Python, and run interpreted where nothing was compiled.  ``build_backend.py`` compiles all or none.

A module belongs here where a page in memory passes through it, and where it has no ``async``.
Compiled classes can't be changed from outside: tests that do so run interpreted.
"""

from __future__ import annotations

import sys

MODULES = (
    "fuseswap.filesystem.swapfile",
    "fuseswap.frontswap.chain",
    "fuseswap.frontswap.compressed_cache",
    "fuseswap.frontswap.page_encoder",
    "fuseswap.store.append_head",
    "fuseswap.store.page_reader",
    "fuseswap.store.segment_log",
    "fuseswap.store.slot_word",
)


def is_compiled() -> bool:
    """Whether the core that this process has imported is the compiled one."""
    module = sys.modules.get("fuseswap.store.segment_log")
    return module is not None and not str(module.__file__).endswith(".py")
