"""The list of modules: each is there, and can be compiled."""

from __future__ import annotations

import ast
import importlib

import pytest

from fuseswap.core.modules import MODULES, is_compiled


@pytest.mark.parametrize("name", MODULES)
def test_each_is_a_module_without_async(name: str) -> None:
    path = importlib.import_module(name).__file__
    assert path is not None
    with open(path) as source:
        nodes = list(ast.walk(ast.parse(source.read())))
    assert not [node for node in nodes if isinstance(node, ast.AsyncFunctionDef | ast.Await)]


def test_these_tests_run_interpreted() -> None:
    assert not is_compiled()
