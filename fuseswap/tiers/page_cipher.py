"""The cipher of pages in their places: page N stays 4096 bytes, at the offset it has anyway.

AES-256-XTS.  The tweak is the number of the page, so equal pages differ in their places, and one
that lies in another place becomes noise.  The key is 64 bytes that AES makes of the key of the
device, for this alone.  There is no room for a tag.  Bytes that were changed, or are older, are
found by the check in the slot word (``raw_file.py``).  It is of the page, not of the bytes on the
file.  It has 32 bits and no key, but a reader of the file does not know the page.

Like any XTS it shows which blocks of 16 bytes of a page differ from those of an earlier day.

3.3 us a page, without the interpreter lock for a part of it.  The buffer is there from the start.
Like ``segment_cipher.py`` it imports `cryptography`: import it only where pages are encrypted.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fuseswap.units import PAGE_SIZE

_KEY_BYTES = 64
_TWEAK_BYTES = 16
_NONCE = b"fuseswap-xts"  # 12 bytes; those of places are "fuseswap" and a number


class PageCipher:
    """Of one file of places.  ``key``: the 32 bytes of the device."""

    def __init__(self, key: bytes) -> None:
        own = AESGCM(key).encrypt(_NONCE, bytes(_KEY_BYTES), None)
        self._algorithm = algorithms.AES(own[:_KEY_BYTES])
        self._scratch = memoryview(bytearray(PAGE_SIZE + _TWEAK_BYTES))  # with room for a block

    def _mode(self, page: int) -> modes.XTS:
        return modes.XTS(page.to_bytes(_TWEAK_BYTES, "little"))

    def seal(self, first: int, pages: bytes, out: memoryview) -> None:
        """Encrypt whole ``pages``, neighbours from page ``first`` on, into ``out``."""
        scratch, view = self._scratch, memoryview(pages)
        for at in range(0, len(pages), PAGE_SIZE):
            mode = self._mode(first + at // PAGE_SIZE)
            encryptor = Cipher(self._algorithm, mode).encryptor()
            encryptor.update_into(view[at : at + PAGE_SIZE], scratch)
            out[at : at + PAGE_SIZE] = scratch[:PAGE_SIZE]

    def open(self, first: int, data: bytes) -> bytes:
        """Whole pages from page ``first`` on; noise where ``data`` is not what `seal` made."""
        found = []
        scratch, view = self._scratch, memoryview(data)
        for at in range(0, len(data), PAGE_SIZE):
            mode = self._mode(first + at // PAGE_SIZE)
            decryptor = Cipher(self._algorithm, mode).decryptor()
            decryptor.update_into(view[at : at + PAGE_SIZE], scratch)
            found.append(bytes(scratch[:PAGE_SIZE]))
        return found[0] if len(found) == 1 else b"".join(found)
