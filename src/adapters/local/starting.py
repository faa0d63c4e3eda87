"""Start a server that outlives this command, apart from its terminal and its environment."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Callable, Sequence
from typing import IO

from adapters.local import environment
from adapters.local.run_as import RunAs, identity


def start(
    command: Sequence[str | pathlib.Path],
    log: IO[str],
    owner: RunAs | None,
    before: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program as this owner, with its output in a log. Raises OSError.

    `before` runs in the new process before the program. No other thread of this command starts processes.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        cwd="/",
        env=environment.for_servers(),
        preexec_fn=before,  # noqa: PLW1509 — see the docstring
        **identity(owner),
    )
