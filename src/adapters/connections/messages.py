"""Shorten texts of servers and programs to a single line of printable letters, for logs and statuses."""

_MAX_LETTERS = 200


def one_line(text: str) -> str:
    """Return the beginning of a text as a single printable line."""
    # Spaces are removed below, so that more than _MAX_LETTERS are read; reading all of a long text takes long.
    shown = "".join(
        letter if letter.isprintable() else " " for letter in text[: 10 * _MAX_LETTERS]
    )
    return " ".join(shown.split())[:_MAX_LETTERS] or "no reason given"


def last_line(text: str) -> str:
    """Return the last line of a text that has more than spaces and dashes."""
    lines = [line for line in text.splitlines() if line.strip(" -")]
    return one_line(lines[-1] if lines else "")
