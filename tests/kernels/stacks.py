"""The stacks that matter in a guest that stood still: out of a console of thousands of lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TIME = re.compile(r"^\[\s*\d+\.\d+\] ?")
_TASK = re.compile(r"^task:(\S+)\s+state:(\S)")
# fuseswap itself, who asks for memory, and who serves the loop device; and whoever waits.
_OF_INTEREST = re.compile(r"guest-python|hog|kswapd|loop|kworker/\S*loop")


def stacks(console: str) -> str:
    """What memory there was, fuseswap's tasks, others of the swap and those blocked; no times."""
    blocks = sorted(_blocks(console), key=_order)
    return "\n".join(line for block in blocks for line in block)


def blocked(console: str) -> list[str]:
    """Names of tasks that were blocked when stacks were taken."""
    tasks = (_TASK.match(_TIME.sub("", line)) for line in console.splitlines())
    return sorted({task[1] for task in tasks if task and task[2] == "D"})


def _order(block: list[str]) -> int:
    return 0 if "Show Memory" in block[0] else 1 if "guest-python" in block[0] else 2


def _blocks(console: str) -> Iterator[list[str]]:
    block: list[str] = []
    wanted = False
    for raw in console.splitlines():
        line = _TIME.sub("", raw)
        task = _TASK.match(line)
        if task or line.startswith("sysrq: "):
            if wanted:
                yield block
            block = []
            wanted = not task or task[2] == "D" or bool(_OF_INTEREST.search(task[1]))
        block.append(line)
        if "</TASK>" in line:
            if wanted:
                yield block
            block, wanted = [], False
    if wanted:
        yield block
