"""The platform without Juju: the same application services, wired to this machine."""

import logging
import sys

import wiring
from adapters.local import cli
from adapters.login import leave
from adapters.postgres import PsycopgDatabases

OWNER = "the pooler on this machine"


def main() -> int:
    """Run one command of `pooler`."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    # A new way to PostgreSQL for each hook: it remembers a server that did not answer.
    return cli.main(
        sys.argv[1:],
        lambda ports: wiring.locally(**ports, databases=PsycopgDatabases(OWNER)),
    )


if __name__ == "__main__":
    code = main()
    leave(code)
    sys.exit(code)
