"""Suggest a known word for a word that is misspelt."""

from __future__ import annotations

from collections.abc import Iterable

# Characters of a word that a message shows.
SHOWN = 60

# A shorter beginning says too little about the word that was meant.
_SHORTEST = 3


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the known word that begins with this word or is nearest to it; '' if none is near."""
    import difflib

    spelt = {_normal(name): name for name in known}
    wanted = _normal(word[:SHOWN])
    begun = [name for name in spelt if len(wanted) >= _SHORTEST and name.startswith(wanted)]
    found = begun if len(begun) == 1 else difflib.get_close_matches(wanted, spelt, n=1)
    return spelt[found[0]] if found else ""


def did_you_mean(word: str, known: Iterable[str], command: str = "") -> str:
    """Return `: did you mean …?` with the nearest known word after `command`; '' if none is near."""
    name = suggestion(word, known)
    return f": did you mean `{f'{command} {name}'.lstrip()}`?" if name else ""


def _normal(word: str) -> str:
    return word.lower().replace("_", "-")
