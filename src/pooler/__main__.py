"""Start the command `pooler`, as the script of that name does."""

import logging
import sys

from adapters.connections.login import end_process
from pooler import cli


def main() -> int:
    """Run the verb on the command line, and return the exit code."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    code = main()
    end_process(code)
    sys.exit(code)
