"""The verb `credentials`: print how an application connects."""

from __future__ import annotations

import argparse
import json

from pooler import tables
from pooler.access import Access, access_of
from pooler.invocation import Invocation


def credentials(run: Invocation, arguments: argparse.Namespace) -> int:
    """Print how an application connects, in the format of the arguments."""
    access = access_of(run, arguments.name)
    match arguments.format:
        case "uri":
            print(access.variables()["DATABASE_URL"])
        case "env":
            print(access.shell_lines())
        case "libpq":
            print(access.conninfo())
        case "json":
            print(json.dumps(access.fields(), indent=2))
        case _:
            tables.show(("field", "value"), _rows(access))
    return 0


def _rows(access: Access) -> list[tuple[str, str]]:
    """Return the rows of the table: `uris` only where there are several, with a row for each."""
    rows: list[tuple[str, str]] = []
    for field, value in access.fields().items():
        if isinstance(value, str):
            rows.append((field, value))
        elif len(value) > 1:
            names = (field, *("" for _ in value[1:]))
            rows += zip(names, value, strict=True)
    return rows
