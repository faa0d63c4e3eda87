"""docs/reference.md has a row for every sentence of the status, and no other row."""

import pathlib
import re

from domain import failures, operation_sentences, sentences

ROOT = pathlib.Path(__file__).parents[3]
ROW = re.compile(r"^\| (?:blocked|waiting|active) \|.*\|$", re.MULTILINE)
FIELD = re.compile(r"\{\w+\}")


def row(kind):
    """Return the row of a kind: its level, its sentence with … for each field, and the cure."""
    return f"| {kind.level} | {FIELD.sub('…', kind.pattern)} | {kind.cure} |"


def test_the_reference_has_a_row_for_every_sentence_and_no_other_row():
    rows = ROW.findall((ROOT / "docs" / "reference.md").read_text())
    kinds = [row(kind) for kind in (*sentences.KINDS, *operation_sentences.KINDS, *failures.KINDS)]
    assert sorted(rows) == sorted(kinds)
