"""The command `pooler`, which can die of kill -9 at any of its effects. Run as a script, by `crash_cli.py`.

An effect is what outlives the process: a file is made, renamed or removed, a process is started or signalled,
a statement changes something. $EFFECTS is a file for what they are; before number $DIE_AT it is over.
"""

import os
import pathlib
import signal
import subprocess
import sys

import psycopg

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "src"))

from pooler import __main__ as pooler

FILES = {"os.rename", "os.remove", "os.rmdir", "os.chown"}
ASKS = ("SELECT", "SHOW", "WITH")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
KILL = os.kill


class Effects:
    """What the process does, one after another, in a file that outlives it."""

    def __init__(self):
        self._last = int(os.environ["DIE_AT"])
        self._home = os.environ["POOLER_HOME"]
        self._seen = open(os.environ["EFFECTS"], "w")  # noqa: SIM115 — until the process ends
        self._number = 0

    def next(self, name):
        self._number += 1
        self._seen.write(" ".join(name.split()) + "\n")
        self._seen.flush()
        if self._number == self._last:
            KILL(os.getpid(), signal.SIGKILL)

    def audit(self, event, values):
        """Python tells of what is done to files, before it is done."""
        path, *more = [*values, None]
        new = event == "os.mkdir" and not os.path.exists(path)
        written = event == "open" and isinstance(path, str | os.PathLike) and more[1] & WRITES
        if event in FILES or new or written:
            self._touch(event, path)

    def _touch(self, event, path):
        # What has no directory is a part of a tree that is being removed; a number is an open file.
        path = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fsdecode(path)
        if path.startswith(self._home) or not os.path.isabs(path):
            self.next(f"{event} {path.removeprefix(self._home)}")

    def around(self, owner, method, named):
        """This method is an effect; it can be over just after it, too."""
        genuine = getattr(owner, method)

        def call(*args, **kwargs):
            self.next(f"before {named(*args)}")
            result = genuine(*args, **kwargs)
            self.next(f"after {named(*args)}")
            return result

        setattr(owner, method, call)

    def statements(self):
        genuine = psycopg.Cursor.execute

        def execute(cursor, statement, *args, **kwargs):
            text = statement.decode() if isinstance(statement, bytes) else statement
            text = text if isinstance(text, str) else text.as_string(cursor)
            if not text.lstrip().startswith(ASKS):
                self.next(f"SQL {text:.60}")
            return genuine(cursor, statement, *args, **kwargs)

        psycopg.Cursor.execute = execute


def main():
    effects = Effects()
    sys.addaudithook(effects.audit)
    effects.around(subprocess.Popen, "__init__", lambda _, words, *more: f"run {words[0]}")
    effects.around(os, "kill", lambda pid, number: f"signal {number}")
    effects.around(signal, "pidfd_send_signal", lambda pid, number: f"signal {number}")
    effects.statements()
    return pooler.run()


if __name__ == "__main__":
    sys.exit(main())
