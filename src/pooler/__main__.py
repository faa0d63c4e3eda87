"""The platform without Juju: the same application services, wired to this machine."""

import logging
import sys

from adapters.connections.login import leave
from pooler import cli


def main() -> int:
    """Run one command of `pooler`."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    code = main()
    leave(code)
    sys.exit(code)
