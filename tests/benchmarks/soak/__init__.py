"""``scripts/soak``: does a device keep its pages while its worker dies, again and again?

Three modes:

    soak             a process under memory pressure checks every page it reads back, while the
                     worker is killed at random times
    soak pause       how long a reader waits around a SIGKILL, and around ``fuseswap restart``
    soak compare     the hot path of this tree against that of another, interleaved

All leave nothing behind: no swap, mount, loop device, cgroup or process, whatever happens.
"""
