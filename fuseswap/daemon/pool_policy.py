"""How much of a pool limit a stripe is to hold, of what all of them hold and want.

Pure arithmetic, in frames of 1 MiB; each stripe asks for itself alone, under the lock of the table
(``pool_table.py``).

    the limit was lowered      who has more than an even share gives it back
    hungry                     takes of what nobody has, a step at a time
    another is hungry          gives what it does not use; else, what has waited longest in it:
                               whose oldest segment is older than the other's gives up a little,
                               so that leaves which is the oldest of all, as with one worker
    calm                       gives back what it does not use, but for a cushion

Steps are bounded, so that a mistake is small and a stripe follows.  A stripe without a tier has
nothing that could leave: what it uses stays with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fuseswap.daemon.pool_table import Row

LEAST_FRAMES = 8  # of a stripe: the least pool limit of any device
SILENT_S = 5  # who has said nothing for so long is dead, or waits for memory: it can't take
_OLDER_S = 5  # less is no difference
_LEAST_CUSHION = 4


def cushion(limit: int, count: int) -> int:
    """Frames beyond those that it uses that a calm stripe keeps."""
    return max(_LEAST_CUSHION, limit // (4 * count))


def is_hungry(limit: int, count: int, target: int, held: int) -> bool:
    """Whether a stripe that may hold ``target`` frames would use more soon."""
    return target - held < cushion(limit, count) // 2


def step(limit: int) -> int:
    """The most frames that a stripe takes or gives at once."""
    return max(1, limit // 16)


def next_target(limit: int, rows: Sequence[Row], stripe: int, most: int) -> int:
    """What ``stripe`` is to hold at most; above what is granted it has to be granted first.

    ``limit``: of all together.  ``most``: it has no more frames.
    """
    own = rows[stripe]
    others = [row for number, row in enumerate(rows) if number != stripe]
    free = limit - sum(row.granted for row in rows)
    if free < 0:
        surplus = max(0, own.granted - limit // len(rows))
        return _not_below_least(own, own.granted - min(-free, surplus))
    wanting = [row for row in others if row.hungry and own.seen - row.seen <= SILENT_S]
    keeps_oldest = own.oldest > 0 and any(row.oldest > own.oldest + _OLDER_S for row in wanting)
    if own.hungry and free and not keeps_oldest:
        return max(own.granted, min(own.granted + min(step(limit), free), most))
    kept = cushion(limit, len(rows))
    if wanting and free < step(limit):
        kept //= 2
    unused = max(0, own.granted - own.held - kept)
    if not unused and keeps_oldest and free < _small(limit):
        unused = _small(limit)
    return _not_below_least(own, own.granted - min(unused, step(limit)))


def _small(limit: int) -> int:
    """What leaves memory for another's sake, at once."""
    return max(1, step(limit) // 4)


def _not_below_least(own: Row, target: int) -> int:
    return max(target, min(LEAST_FRAMES, own.granted))
