"""Assertions that cannot fail, for which ruff has no rule."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def vacuous(source: str) -> Iterator[int]:
    """Yield the lines of assertions whose message is a comparison, and of comparisons that are statements.

    `assert a, b == (1, 2)` checks that `a` is true, and uses the comparison as its message.
    """
    for node in ast.walk(ast.parse(source)):
        value = (
            node.msg if isinstance(node, ast.Assert) else node.value if isinstance(node, ast.Expr) else None
        )
        parts = value.values if isinstance(value, ast.BoolOp) else [value]
        if any(isinstance(part, ast.Compare) for part in parts):
            yield node.lineno


def test_no_assertion_has_a_comparison_as_its_message() -> None:
    """All tests are checked."""
    files = [*TESTS.rglob("*.py")]
    found = {str(file): lines for file in files if (lines := [*vacuous(file.read_text())])}
    assert len(files) > 100
    assert found == {}


def test_such_assertions_are_found() -> None:
    """Both kinds are, and no others."""
    assert [*vacuous("assert a, b == (1, 2)\na == 1\nassert a == 1, f'{a}'\nassert (a, b) == (1, 2)")] == [
        1,
        2,
    ]
