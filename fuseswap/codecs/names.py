"""Compressors that are ours, by the names people type.

Apart from the codecs: a command that is told one needs neither of their libraries.
"""

from __future__ import annotations

from fuseswap.spelling import is_whole

LZ4_NAME = "lz4"
ZSTD_NAME = "zstd"
DEFAULT_LEVEL = 1
MAX_LEVEL = 19


def full_name(text: str) -> str | None:
    """``lz4``, or ``zstd`` or ``zstd:LEVEL`` with its level; None for any other text.

    That may be a compressor of a plugin, or wrong: see `CodecRegistry.compressor`.
    """
    name, colon, digits = text.strip().partition(":")
    if name == LZ4_NAME and not colon:
        return name
    if name == ZSTD_NAME and not colon:
        return f"{name}:{DEFAULT_LEVEL}"
    if name == ZSTD_NAME and is_whole(digits) and 1 <= int(digits) <= MAX_LEVEL:
        return f"{name}:{int(digits)}"
    return None
