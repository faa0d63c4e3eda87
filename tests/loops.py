"""Run functions in threads while a test goes on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable

Loop = Callable[[threading.Event], object]


@contextlib.contextmanager
def in_threads(loops: Iterable[Loop], seconds: float = 60) -> Generator[None]:
    """Run each function in its own thread until the context ends.

    A function gets an event, which is set at the end of the context, and returns then. Raises the first error
    of a function, and TimeoutError for a function that does not return within so many seconds.
    """
    ending = threading.Event()
    errors: list[BaseException] = []

    def run(loop: Loop) -> None:
        try:
            loop(ending)
        except BaseException as error:
            errors.append(error)

    # A thread that hangs does not keep this process from its end.
    threads = [threading.Thread(target=run, args=(loop,), daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        end = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0, end - time.monotonic()))
    if errors:
        raise errors[0]
    if any(thread.is_alive() for thread in threads):
        raise TimeoutError(f"a thread does not end within {seconds:g} s")
