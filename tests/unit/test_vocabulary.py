"""Standard vocabulary: no name, message, docstring or page uses a withdrawn word."""

from __future__ import annotations

import pytest

from tests.support.vocabulary import ROOT, in_identifier, in_markdown, in_python, offences

CHECKED = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "benchmarks",
    "docs",
    "example_dags",
    "scripts",
    "tests",
    "voiceos_provider",
)

PRESENT = [path for path in CHECKED if (ROOT / path).exists()]
"""All of them, except in a checkout with only the tests and an installed wheel: see `scripts/matrix.py`."""


@pytest.mark.parametrize("path", PRESENT)
def test_no_withdrawn_word_is_used(path: str) -> None:
    """Check identifiers, comments, docstrings, messages and pages."""
    assert [str(offence) for offence in offences(ROOT / path)] == []


def test_every_path_of_the_list_exists() -> None:
    """A moved path would not be checked."""
    assert list(CHECKED) == PRESENT or not (ROOT / "voiceos_provider").exists()


@pytest.mark.parametrize(
    "source",
    [
        "settle = 1",
        "def roll_call(): pass",
        "class RollCall: pass",
        "tally.dice()",
        "def tell(): pass",
        "tell()",
        "log.info('Nobody answers.')",
        "x = f'{a} whoever reads'",
        "# It lets go of the lock.\\n",
        '"""How is the API reached?"""',
        'class A:\n    """What is it?\n\n    More.\n    """',
    ],
)
def test_a_withdrawn_word_is_found(source: str) -> None:
    """It may be anywhere in Python source."""
    assert [*in_python(source)] != []


@pytest.mark.parametrize(
    "source",
    [
        "settlement = slice(1); islice(x, 2)",
        "keyboard = placeholder = navigate",
        "size = file.tell()",
        '"""Return the rows. Is that all? Yes."""',
        "# A stand-in stands for the engine, for it_is_short.\\n",
    ],
)
def test_a_standard_word_is_not_found(source: str) -> None:
    """It only contains a withdrawn one."""
    assert [*in_python(source)] == []


def test_code_in_pages_is_not_prose() -> None:
    """The page may show a name that a database or another product uses."""
    assert [*in_markdown("```\nwhoever\n```\n`settle` [x](slices.md)")] == []
    assert [*in_markdown("Text.\n\nFor whoever\nreads.")] == [
        (3, "whoever", "name the person or thing; use the passive")
    ]


def test_each_word_of_an_identifier_counts() -> None:
    """Snake case and camel case are split."""
    assert [*in_identifier("_max_settle_time")] != []
    assert [*in_identifier("MaxSettleTime")] != []
