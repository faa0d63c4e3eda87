"""Suggest a known word for a word that is misspelt."""

from __future__ import annotations

from collections.abc import Iterable

# Characters of a word that a message shows.
SHOWN = 60


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the known word that is nearest to this word; '' if none is near."""
    import difflib

    words = list(known)
    # A word that is a beginning of a single known word was typed for that word.
    begun = [name for name in words if word and name.startswith(word)]
    if len(begun) == 1:
        return begun[0]
    lower = {name.lower().replace("_", "-"): name for name in words}
    near = difflib.get_close_matches(word[:SHOWN].lower().replace("_", "-"), lower, n=1)
    return lower[near[0]] if near else ""


def did_you_mean(word: str, known: Iterable[str], before: str = "", after: str = "") -> str:
    """Return `: did you mean …?` with the nearest known word between two texts; '' if none is near."""
    name = suggestion(word, known)
    return f": did you mean `{before}{name}{after}`?" if name else ""
