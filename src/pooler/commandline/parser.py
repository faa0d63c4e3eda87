"""The parser of the whole command line."""

from __future__ import annotations

import argparse

from pooler.commandline import clients, lifecycle, operate, show

ABOUT = "Run PgBouncer in one or more units on this machine, with the verbs that Juju has."


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with all verbs."""
    pooler = argparse.ArgumentParser(prog="pooler", description=ABOUT)
    verbs = pooler.add_subparsers(dest="verb", required=True, metavar="VERB")
    for topic in (lifecycle, clients, operate, show):
        topic.add(verbs)
    return pooler
