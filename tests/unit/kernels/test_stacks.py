"""Of all tasks on a console those of the swap are kept, and those that wait."""

from __future__ import annotations

from tests.kernels.stacks import blocked, stacks

CONSOLE = """\
[    6.2] Adding 1048572k swap on /dev/loop0.
[   50.7] sysrq: Show Memory
[   50.7] Mem-Info:
[   61.0] sysrq: Show State
[   61.0] task:kthreadd        state:S stack:0     pid:2
[   61.0]  <TASK>
[   61.0]  kthreadd+0x1
[   61.0]  </TASK>
[   61.0] task:guest-python    state:R  running task
[   61.0]  <TASK>
[   61.0]  shmem_fallocate+0x384/0x520
[   61.0]  </TASK>
[   61.0] task:bystander       state:D stack:0     pid:182
[   61.0]  <TASK>
[   61.0]  swap_writepage+0x11c/0x2d0
[   61.0]  </TASK>
[   82.9] Kernel Offset: disabled
"""


def test_the_tasks_of_the_swap_and_those_that_wait() -> None:
    found = stacks(CONSOLE)
    assert "Mem-Info:" in found
    assert "\n shmem_fallocate+0x384/0x520\n" in found
    assert "task:bystander" in found
    assert "kthreadd" not in found
    assert "Adding" not in found
    assert "Kernel Offset" not in found


def test_fuseswap_comes_before_others() -> None:
    worker, other = CONSOLE.index("[   61.0] task:guest-python"), CONSOLE.index("[   82.9]")
    found = stacks(CONSOLE + CONSOLE[worker:other])
    assert found.rindex("task:guest-python") < found.index("task:bystander")


def test_who_waits_is_named() -> None:
    assert blocked(CONSOLE) == ["bystander"]


def test_a_guest_that_went_on_has_none() -> None:
    assert stacks("[    6.2] Adding 1048572k swap on /dev/loop0.\n") == ""
