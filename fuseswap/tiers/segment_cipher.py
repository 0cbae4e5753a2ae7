"""The cipher of a segment: 1 MiB becomes blocks that can be neither read nor changed unseen.

AES-256-GCM, in chunks, so that a page is read without the rest.  A chunk and its tag fill a block
of 4096 bytes.  The last chunk fills two: 256 tags of 16 bytes are just one page.

    chunk      0         1              254                  255
    segment    4080      4080     ...   4080      8176                        = 1 MiB
    block      |data|tag |data|tag ...  |data|tag |data                  |tag  = 1 MiB + 4096

    nonce      generation (8 bytes), extent (3), chunk (1)
    key        of the place: 32 bytes that AES makes of the key of the device and the number of
               the place, which is a tier or one half of a mirror
    associated the id of the device

A nonce is used twice under a key only where a write failed and is tried again in the same extent:
with the same bytes.  Two places may get other bytes each of a segment that dies meanwhile, so each
has a key of its own.  Bytes of another chunk, extent, generation, place or device do not verify.

This and ``page_cipher.py`` alone import `cryptography`: import them only where something is
encrypted.  It takes 12 MiB of locked memory.  11 of them are its library, which worker and standby
share.
"""

from __future__ import annotations

import errno

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fuseswap.units import ENCRYPTED_SEGMENT_BYTES, PAGE_SIZE, SEGMENT_BYTES

TAG_BYTES = 16
CHUNK_BYTES = PAGE_SIZE - TAG_BYTES
CHUNKS = 256
_KEY_BYTES = 32
_LAST = CHUNKS - 1

# Where each chunk begins, in the segment and among the blocks, and where the last one ends.
_PLAIN_AT: tuple[int, ...] = (*range(0, _LAST * CHUNK_BYTES + 1, CHUNK_BYTES), SEGMENT_BYTES)
BLOCK_AT: tuple[int, ...] = (*range(0, _LAST * PAGE_SIZE + 1, PAGE_SIZE), ENCRYPTED_SEGMENT_BYTES)


def chunks_of(offset: int, length: int) -> tuple[int, int]:
    """The first chunk with one of these bytes of a segment, and the one behind the last."""
    return min(offset // CHUNK_BYTES, _LAST), min((offset + length - 1) // CHUNK_BYTES, _LAST) + 1


def plain_at(chunk: int) -> int:
    """Where ``chunk`` begins in the segment."""
    return _PLAIN_AT[chunk]


class SegmentCipher:
    """Of one place.  ``key``: 32 bytes; ``place``: a number that no other place has had."""

    def __init__(self, key: bytes, device: bytes, place: int) -> None:
        own = AESGCM(key).encrypt(
            b"fuseswap" + place.to_bytes(4, "little"), bytes(_KEY_BYTES), None
        )
        self._cipher = AESGCM(own[:_KEY_BYTES])
        self._device = device
        self._nonce = bytearray(12)

    def _begin(self, extent: int, generation: int) -> bytearray:
        """The nonce, all but its last byte, the chunk."""
        nonce = self._nonce
        nonce[:8] = generation.to_bytes(8, "little")
        nonce[8:11] = extent.to_bytes(3, "little")
        return nonce

    def seal(
        self,
        extent: int,
        generation: int,
        segment: memoryview,
        blocks: memoryview,
        first: int,
        end: int,
    ) -> None:
        """Encrypt chunks ``first`` to ``end`` of ``segment`` into their places in ``blocks``."""
        nonce = self._begin(extent, generation)
        encrypt, device = self._cipher.encrypt_into, self._device
        for chunk in range(first, end):
            nonce[11] = chunk
            plain = segment[_PLAIN_AT[chunk] : _PLAIN_AT[chunk + 1]]
            encrypt(nonce, plain, device, blocks[BLOCK_AT[chunk] : BLOCK_AT[chunk + 1]])

    def open(self, extent: int, generation: int, blocks: bytes, first: int, end: int) -> bytes:
        """The bytes of chunks ``first`` to ``end`` out of their ``blocks``.

        Raises `OSError` (EBADMSG) where one does not verify.
        """
        nonce = self._begin(extent, generation)
        nonce[11] = first
        try:
            if end == first + 1:
                return self._cipher.decrypt(nonce, blocks, self._device)
            found = []
            start = BLOCK_AT[first]
            view = memoryview(blocks)
            for chunk in range(first, end):
                nonce[11] = chunk
                block = view[BLOCK_AT[chunk] - start : BLOCK_AT[chunk + 1] - start]
                found.append(self._cipher.decrypt(nonce, block, self._device))
        except InvalidTag:
            where = f"chunk {nonce[11]} of extent {extent} does not verify"
            raise OSError(errno.EBADMSG, where) from None
        return b"".join(found)
