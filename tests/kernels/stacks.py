"""The stacks that matter in a guest that stood still: out of a console of thousands of lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TIME = re.compile(r"^\[\s*\d+\.\d+\] ?")
_TASK = re.compile(r"^task:(\S+)\s+state:(\S)")
# fuseswap itself, who asks for memory, and who serves the loop device; and whoever waits.
_OF_INTEREST = re.compile(r"guest-python|hog|kswapd|loop|kworker/\S*loop")


def stacks(console: str) -> str:
    """Blocked tasks and those of the swap, without times; also what memory there was."""
    return "\n".join(line for block in _blocks(console) for line in block)


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
