"""Guests under qemu that run short of memory as a whole, with fuseswap as their only swap.

`scripts/kernels` is the command.  Nothing here is collected by pytest; the pure parts have
their tests in `tests/unit/kernels`.

    scenario -> images (root, initrd, source, scratch) -> machine -> verdict -> results -> report
"""
