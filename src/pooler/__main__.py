"""Start the command `pooler`, as the script of that name does."""

import os
import sys


def run() -> int:
    """Run the verb on the command line, and return the exit code."""
    from pooler import cli
    from pooler.exit_codes import FAILED, INTERRUPTED, UNREAD
    from pooler.output import discard_output, print_error

    try:
        try:
            return cli.main(sys.argv[1:])
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        return UNREAD
    except OSError as error:
        discard_output()
        print_error(f"pooler: the output cannot be written: {error.strerror}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def end(code: int) -> None:
    """End the process with this code, also if a login that was given up is still at work."""
    if login := sys.modules.get("adapters.connections.login"):
        login.end_process(code)
    sys.exit(code)


if __name__ == "__main__":
    if not __package__:
        # The script runs this file. No module comes from the current directory or from $PYTHONPATH.
        sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    end(run())
