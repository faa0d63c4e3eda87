"""Parse the command line, and run its verb.

`--help`, `--version` and completion have to be quick, so the modules that know PgBouncer and
PostgreSQL are imported only when a verb needs them.
"""

from __future__ import annotations

from collections.abc import Sequence

from pooler.commandline.parser import parse


def main(words: Sequence[str]) -> int:
    """Run the verb in these words, and return the exit code. Raises SystemExit as argparse does."""
    arguments = parse(words)
    if arguments.light:
        return arguments.light(arguments)
    from pooler.execution import execute

    return execute(arguments)
