"""Input that was made on purpose: any bytes, and valid ones changed, cut or lengthened."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from fuseswap.units import MIB
from tests.support.effort import scaled

LARGEST_TAKEN = MIB  # bytes of Python's objects, by one input


def tries(count: int) -> settings:
    """So many inputs at an effort of 1; of a fixture each may get what the last one left."""
    return settings(
        max_examples=scaled(count),
        deadline=None,
        derandomize="CI" in os.environ,
        phases=set(Phase) - {Phase.explain},
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def changed(draw: st.DrawFn, valid: bytes) -> bytes:
    """``valid`` after up to four changes."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(data))))
        match draw(st.sampled_from(("flip", "put", "cut", "lengthen", "drop", "repeat"))):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "put":
                some = draw(st.binary(max_size=16))
                data[at : at + len(some)] = some
            case "cut":
                del data[at:]
            case "lengthen":
                data += draw(st.binary(max_size=64))
            case "drop":
                del data[at : at + draw(st.integers(1, 16))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case _:
                pass
    return bytes(data)


def bytes_like(*valid: bytes) -> st.SearchStrategy[bytes]:
    """Any bytes, or one of ``valid`` that was changed."""
    return st.one_of(st.binary(max_size=256), *(changed(one) for one in valid))


NUMBERS = st.one_of(
    st.integers(-2, 300), st.sampled_from([s * (1 << n) + d for n in (16, 31, 32, 63, 64, 100)
                                           for d in (-1, 0, 1) for s in (1, -1)])
)  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.floats(), st.text(max_size=12))


def json_like(depth_leaves: int = 8) -> st.SearchStrategy[Any]:
    """What JSON can say."""
    return st.recursive(
        SCALARS,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=depth_leaves,
    )


@st.composite
def changed_json(draw: st.DrawFn, valid: dict[str, Any]) -> Any:
    """``valid`` with values replaced and left out, at any depth."""
    content: Any = _copy(valid)
    for _ in range(draw(st.integers(0, 3))):
        at = content
        while isinstance(at, dict | list) and at:
            key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if isinstance(at[key], dict | list) and at[key] and draw(st.booleans()):
                at = at[key]
                continue
            if draw(st.booleans()):
                at[key] = draw(json_like())
            else:
                del at[key]
            break
    return content


def _copy(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _copy(value) for key, value in content.items()}
    return [_copy(one) for one in content] if isinstance(content, list) else content


@contextmanager
def bounded(most: int = LARGEST_TAKEN) -> Iterator[None]:
    """Fails where more than ``most`` bytes of objects were taken at once."""
    tracemalloc.start(1)
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
