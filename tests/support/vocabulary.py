"""Withdrawn words, and where they are used: `python -m tests.support.vocabulary [PATH ...]` lists the offenders."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

IDENTIFIER_WORDS = {
    "board": "shared poll",
    "careful": "fallback",
    "carefully": "fallback",
    "crew": "workers",
    "density": "arrival rate",
    "dice": "rng",
    "gate": "rate limiter",
    "lane": "window",
    "nobody": "no one, none",
    "readers": "workers",
    "scratch": "work directory",
    "settle": "visibility delay",
    "settled": "visibility delay",
    "slices": "windows",
    "slicing": "windows",
    "standing": "existing",
    "stranger": "undocumented",
    "strangers": "undocumented",
    "survey": "shared poll",
    "tally": "counters, metrics",
    "tell": "report, log, notify",
    "tells": "reports, logs, notifies",
    "told": "reported, logged",
    "tries": "attempts",
}
"""Words that no identifier contains, with what to write in their place: `roll_call`, `RollCall` have two words."""

WHOLE_IDENTIFIERS = {
    "answer": "response",
    "answers": "responses",
    "lives": "conversation states",
    "look": "poll",
    "looks": "polls",
    "news": "schema drift",
    "orders": "plan",
    "roll_call": "condition",
    "slice_": "window",
}
"""Names that no identifier has as a whole."""

FOREIGN = {"max_tries"}
"""Names of Airflow."""

FOREIGN_METHODS = {"tell"}
"""Methods of files, which only calls name: `file.tell()`."""

TEXT = {
    r"\b(?:roll calls?|surveys?|tally|tallies|scratch|dice|strangers?|late enders?)\b": "see the glossary",
    r"\bsettl(?:e|es|ed|ing)\b": "visibility delay",
    r"\b(?:density)\b": "arrival rate",
    r"\b(?:slices?|sliced|slicing)\b": "window",
    r"\b(?:whoever|whomever|nobody|somebody)\b": "name the person or thing; use the passive",
    r"\b(?:lets?|letting) go\b": "releases, stops waiting for",
    r"\bwhat is no\b": "anything that is not",
    r"\bso (?:many|long)\b(?! as\b)": "a number, a duration",
    r"\bstands?\b(?= (?:above|below|beside|by|down|here|in (?!for)|on|once|there|where|with))": "is",
    r"\btells\b": "reports, shows",
    r"\basked for\b": "requested",
    r"\bof which\b": "whose, with",
    r"(?:,|;| -) for (?:he|it|its|she|there|these|they|this|those|we|you)\b": "because",
    r"\b(?:comes?|came|listed) twice\b": "duplicate",
    r"\bfor good\b": "non-retryable",
    r"\b(?:a|an|the|its|each|every|no|one|such an) answers?\b": "response",
    r"\b(?:another|each|earlier|every|first|further|last|next|one) (?:try|tries)\b": "attempt",
    r"\b(?:a|each|every|next|one|two) looks?\b(?! like)": "poll",
    r"\brows (?:that|which) (?:stand|are there)\b": "existing rows",
}
"""Patterns that no comment, docstring, message or page contains, with what to write in their place."""

_CASE = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_FENCED = re.compile(r"^(```+|~~~+).*?^\1", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`|\]\([^)\s]*\)|<!--.*?-->", re.DOTALL)
_OWN_FILES = {Path(__file__).resolve(), ROOT / "tests" / "unit" / "test_vocabulary.py"}
"""The list of words and its test."""


@dataclass(frozen=True, order=True)
class Offence:
    """A use of a withdrawn word."""

    path: str
    line: int
    found: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found!r}; write: {self.instead}"


def offences(*paths: Path) -> list[Offence]:
    """Return the uses of withdrawn words in Python and Markdown files, or in all of them below a directory."""
    found: set[Offence] = set()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.resolve() in _OWN_FILES or "_build" in file.parts:
                continue
            if file.suffix == ".py":
                found |= {Offence(_name(file), *each) for each in in_python(file.read_text())}
            elif file.suffix == ".md":
                found |= {Offence(_name(file), *each) for each in in_markdown(file.read_text())}
    return sorted(found)


def in_python(source: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, word and replacement for identifiers, comments, strings and question docstrings."""
    previous = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        is_foreign = previous == "." and token.string in FOREIGN_METHODS
        previous = token.string
        if kind == "NAME" and not is_foreign:
            yield from ((token.start[0], *each) for each in in_identifier(token.string))
        elif kind in ("COMMENT", "STRING", "FSTRING_MIDDLE"):
            yield from in_text(token.string, token.start[0])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = (ast.get_docstring(node) or "").partition("\n\n")[0]
            if first.endswith("?"):
                line = 1 if isinstance(node, ast.Module) else node.lineno
                yield line, first.partition("\n")[0], "a statement in place of a question"


def in_identifier(name: str) -> Iterator[tuple[str, str]]:
    """Yield name and replacement for a withdrawn identifier."""
    instead = WHOLE_IDENTIFIERS.get(name.strip("_"))
    words = [word.lower() for word in _CASE.findall(name)]
    instead = instead or next((IDENTIFIER_WORDS[word] for word in words if word in IDENTIFIER_WORDS), None)
    if "roll" in words and "call" in words:
        instead = WHOLE_IDENTIFIERS["roll_call"]
    if instead and name not in FOREIGN:
        yield name, instead


def in_text(text: str, line: int = 1) -> Iterator[tuple[int, str, str]]:
    """Yield line, words and replacement for withdrawn words in prose."""
    for pattern, instead in _PATTERNS:
        for match in pattern.finditer(text):
            yield line + text.count("\n", 0, match.start()), " ".join(match[0].split()), instead


def in_markdown(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the same for a page, except in its code."""
    for code in (_FENCED, _CODE):
        text = code.sub(lambda match: "\n" * match[0].count("\n") or " ", text)
    yield from in_text(text)


_PATTERNS = [(re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE), new) for pattern, new in TEXT.items()]


def _name(file: Path) -> str:
    file = file.resolve()
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)


def _main(*paths: str) -> None:
    if paths:
        print(*offences(*map(Path, paths)), sep="\n")
        return
    packages = [path for path in sorted((ROOT / "voiceos_provider").iterdir()) if path.is_dir()]
    modules = sorted((ROOT / "voiceos_provider").glob("*.py"))
    others = [ROOT / name for name in ("benchmarks", "docs", "example_dags", "scripts", "tests", "README.md")]
    for path in (*packages, *modules, *others):
        if count := len(offences(path)):
            print(f"{count:5} {_name(path)}")


if __name__ == "__main__":
    _main(*sys.argv[1:])
