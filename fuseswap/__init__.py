"""fuseswap: a compressed swap device in user space.

Read ``docs/architecture.md`` for the way a page travels through the layers.
"""

__version__ = "0.1.0"
