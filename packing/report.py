"""Print what is being done."""

from __future__ import annotations

import sys
import time


class Report:
    """Prints lines to standard error, each with the seconds since the start."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line at once."""
        print(f"{time.monotonic() - self._begin:4.0f} s  {line}", file=sys.stderr, flush=True)
