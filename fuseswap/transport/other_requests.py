"""Requests that are not READ or WRITE of the swapfile, as devfuse answers them.

They get a share of the loop's time (``share.py``).  Once that is spent, those that can wait do so,
in order, until their task has time for them:

    answer -> hold: a copy of the message -> `run`: its turn -> answer again

What concerns the swapfile itself does not wait, nor what is over at once.  At most `MAX_HELD`
wait; one more is told to ask again.  A request that waits when this worker ends is like any
that was not answered: the next worker gets it.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Mapping

import trio

from fuseswap.filesystem.tree import SWAPFILE
from fuseswap.transport.fuse_ops import Unsupported
from fuseswap.transport.fuse_protocol import IN_HEADER_BYTES, WRITE_HEADER_BYTES, Opcode
from fuseswap.transport.share import Share

MAX_HELD = 64
_MAX_BYTES = 8192  # a name or a parameter, and its header; nothing longer is sent in earnest
_CAN_WAIT = frozenset(
    map(
        int,
        (
            *(Opcode.LOOKUP, Opcode.GETATTR, Opcode.SETATTR, Opcode.OPEN, Opcode.READ),
            *(Opcode.WRITE, Opcode.STATFS, Opcode.OPENDIR, Opcode.READDIR),
        ),
    )
)

Method = Callable[[int, memoryview], bytes | None]
AnswerAgain = Callable[[int, bytearray], None]  # slot of the journal, message


class OtherRequests:
    """``table``: a method an opcode.  ``answer_again`` is given what has waited."""

    def __init__(
        self, table: Mapping[int, Method], answer_again: AnswerAgain, share: Share | None
    ) -> None:
        self._table = table
        self._answer_again = answer_again
        self._share = share or Share()
        self._held: deque[tuple[int, bytearray]] = deque()  # `MAX_HELD` at most
        self._lot = trio.lowlevel.ParkingLot()
        self._is_their_turn = False

    def answer(self, opcode: int, inode: int, message: memoryview) -> bytes | None:
        """The body of the reply, None for no reply.  Raises what the method raises."""
        method = self._table.get(opcode)
        if method is None:
            raise Unsupported
        began_ns = self._share.now_ns()
        try:
            return method(inode, message[IN_HEADER_BYTES:])
        finally:
            if inode != SWAPFILE:
                self._share.spend_since(began_ns)

    def has_to_wait(self, opcode: int, inode: int, length: int) -> bool:
        """Whether to `hold` it.  Raises `Unsupported` (EAGAIN) where too many wait."""
        if inode == SWAPFILE or opcode not in _CAN_WAIT or self._is_their_turn:
            return False
        if not self._held and not self._share.is_spent:
            return False
        if len(self._held) >= MAX_HELD or length > _MAX_BYTES:
            raise Unsupported(errno.EAGAIN)
        return True

    def hold(self, slot: int, message: memoryview, length: int) -> None:
        """Answer it in its turn; ``slot`` of the journal has it too, 0 for none."""
        copied = bytearray(max(length, WRITE_HEADER_BYTES))
        copied[:length] = message[:length]
        self._held.append((slot, copied))
        self._lot.unpark_all()

    async def run(self) -> None:
        """Answer what waits, as the share allows."""
        while True:
            while not self._held:
                await self._lot.park()
            while self._share.is_spent:
                await trio.sleep(self._share.wait_s())
            slot, message = self._held.popleft()
            self._is_their_turn = True
            try:
                self._answer_again(slot, message)
            finally:
                self._is_their_turn = False
            await trio.lowlevel.checkpoint()
