"""How is what a stranger said told to the operator? On one line, in letters that show, and shortly."""

_LONGEST = 200


def one_line(text: str) -> str:
    """The beginning of a text, fit for a status."""
    # Longer than what is kept, as spaces go; shorter than what would take long.
    shown = "".join(one if one.isprintable() else " " for one in text[: 10 * _LONGEST])
    return " ".join(shown.split())[:_LONGEST] or "no reason given"


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [one for one in text.splitlines() if one.strip(" -")]
    return one_line(lines[-1] if lines else "")
