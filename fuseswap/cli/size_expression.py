"""Sizes that depend on the machine, as zram-generator writes them: ``min(ram / 2, 4096)``.

Numbers are MiB, and so is ``ram``.  There are + - * / ** and parentheses, and the functions min,
max, floor, ceil, round, sqrt and abs.  Nothing else is evaluated.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable

from fuseswap.errors import InvalidArgument
from fuseswap.units import MIB

_LONGEST = 200
_GREATEST = 1 << 53  # MiB, and far beyond any machine
_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": round,
    "sqrt": math.sqrt,
    "abs": abs,
}


def evaluate(text: str, memory_bytes: int) -> int:
    """Bytes, in whole MiB; raises `InvalidArgument`."""
    try:
        if len(text) > _LONGEST:
            raise ValueError
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval")
        value = _value(tree.body, memory_bytes / MIB)
        if not 0 <= value <= _GREATEST:
            raise ValueError
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        raise InvalidArgument(
            f"'{text}' is not a size in MiB; write it like 4096 or min(ram / 2, 4096)"
        ) from None
    return int(value) * MIB


def _value(node: ast.expr, ram: float) -> float:
    """Raises `ValueError` for what is not allowed, and whatever the arithmetic raises."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.Name(id="ram"):
            return ram
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return math.pow(_value(left, ram), _value(right, ram))
        case ast.BinOp(left=left, op=kind, right=right) if type(kind) in _OPERATORS:
            return _OPERATORS[type(kind)](_value(left, ram), _value(right, ram))
        case ast.UnaryOp(op=kind, operand=operand) if type(kind) in _OPERATORS:
            return _OPERATORS[type(kind)](_value(operand, ram))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(one, ram) for one in arguments))
    raise ValueError
