"""The host side: mounts, loop devices, swap, memory and protection of the worker.

Talks to the kernel and to util-linux; knows nothing of pages or stores.
"""
