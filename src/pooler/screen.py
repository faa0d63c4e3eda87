"""Print views on a terminal or into a file, and draw a view again and again until the user ends it.

rich is imported by the calls that draw.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import Console, RenderableType


class Size(NamedTuple):
    """The size of an output."""

    columns: int
    lines: int


# The size of an output that is no terminal: nothing is wrapped or cut there.
NO_LIMIT = Size(10_000, 10_000_000)

# Seconds between two looks at the size of the terminal.
_LOOK_SECONDS = 0.25


def console() -> Console:
    """Return the console of the standard output. It honours $NO_COLOR and $TERM."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else NO_LIMIT.columns
    return Console(width=width, markup=False, emoji=False, highlight=False)


def show(parts: Sequence[RenderableType]) -> None:
    """Print the parts of a view."""
    output = console()
    if output.is_terminal:
        output.print(*parts, sep="\n")
        return
    with output.capture() as capture:
        output.print(*parts, sep="\n")
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def repeat(every: float, draw: Callable[[Size], Sequence[RenderableType]]) -> int:
    """Draw a view every `every` seconds until the user types `q` or Ctrl-C, and return the exit code.

    `draw` returns the parts for a size. An output that is no terminal gets the
    views below each other.
    """
    output = console()
    if not output.is_terminal or output.is_dumb_terminal:
        while True:
            show(draw(NO_LIMIT))
            sys.stdout.flush()
            time.sleep(every)
    from rich.console import Group
    from rich.live import Live

    with _keys() as typed_q, Live(console=output, screen=True, auto_refresh=False) as live:
        while True:
            size = output.size
            live.update(Group(*draw(Size(*size))), refresh=True)
            end = time.monotonic() + every
            while (left := end - time.monotonic()) > 0 and output.size == size:
                if typed_q(min(left, _LOOK_SECONDS)):
                    return 0


@contextlib.contextmanager
def _keys() -> Generator[Callable[[float], bool]]:
    """Yield a function that waits for a number of seconds and returns whether `q` was typed.

    The terminal gives single letters meanwhile, and is restored, also if a signal ends the command.
    """
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        if not sys.stdin.isatty():
            yield _sleep
            return
        import termios
        import tty

        descriptor = sys.stdin.fileno()
        settings = termios.tcgetattr(descriptor)
        try:
            tty.setcbreak(descriptor)
            yield lambda seconds: _typed_q(descriptor, seconds)
        finally:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> NoReturn:
    """End the command in the way in which the terminal is restored."""
    raise SystemExit(128 + number)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _typed_q(descriptor: int, seconds: float) -> bool:
    readable, _, _ = select.select([descriptor], [], [], seconds)
    if not readable:
        return False
    typed = os.read(descriptor, 100)
    if not typed:  # The terminal has gone.
        raise SystemExit(0)
    return b"q" in typed.lower()
