"""Attacks by a server that is not PostgreSQL: on our own logins, and on those of PgBouncer."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from attack import attack, hold
from imposter import Imposter
from packets import Closed, Refused, Scram, Wire, answers
from platform_under_test import ROOT, Pooler
from ports import free_port
from postgresql import PASSWORD
from stage import Process, Stage

OUR_DEADLINE = 40.0  #: seconds that a login of ours may take with a server that is hostile

# The login of a hook, in a process of its own so that it can be ended.
_HOOK = """
import sys
sys.path[:0] = {path!r}
import pydantic
from adapters.postgres.databases import PsycopgDatabases
from domain.backend import BackendLogin
from domain.endpoints import Endpoint
from domain.users import Login
secret = pydantic.SecretStr({password!r})
here = (Endpoint(host="127.0.0.1", port={port}),)
backend = BackendLogin(user="operator", password=secret, database="pgbouncer", endpoints=here)
databases = PsycopgDatabases("attacks")
for act in ("open", "admits"):
    try:
        if act == "open":
            with databases.open(backend):
                print("logged in")
        else:
            client = Login(username="relation_id_1", password=secret)
            print(databases.admits(backend, client, "shop"))
    except Exception as error:
        print(type(error).__name__, error)
"""


def _hook(imposter: Imposter) -> float | None:
    """How long the logins of a hook take; None if they do not end in time."""
    script = _HOOK.format(path=[str(ROOT / "src")], password=PASSWORD, port=imposter.port)
    begin = time.monotonic()
    try:
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, check=False, timeout=OUR_DEADLINE
        )
    except subprocess.TimeoutExpired:
        return None
    return time.monotonic() - begin


def _command(imposter: Imposter, program: pathlib.Path) -> float | None:
    """How long `pooler up` takes; None if it does not end in time."""
    with contextlib.closing(Pooler(PGBOUNCER=str(program), PGPASSWORD=PASSWORD)) as pooler:
        begin = time.monotonic()
        try:
            pooler.run(
                "up",
                *("--backend", f"postgresql://operator@127.0.0.1:{imposter.port}"),
                timeout=OUR_DEADLINE,
            )
        except subprocess.TimeoutExpired:
            return None
        return time.monotonic() - begin


@attack("32", "a server asks us for a password in plain text", "critical")
def plain_password(stage: Stage) -> None:
    """A server that is not PostgreSQL asks for the password of the backend's user, and of a client."""
    with Imposter("password") as imposter:
        _hook(imposter)
        hold(not imposter.passwords, f"a hook tells passwords in {len(imposter.passwords)} logins")
        _command(imposter, stage.program)
        hold(not imposter.passwords, "`pooler up` tells the superuser's password")


@attack("33", "a server asks us for 100 million SCRAM iterations", "high")
def many_iterations(stage: Stage) -> str:
    """A server that is not PostgreSQL keeps a hook and `pooler up` busy with SCRAM."""
    with Imposter("iterations") as imposter:
        hook = _hook(imposter)
        hold(hook is not None, f"a hook's login does not end within {OUR_DEADLINE:.0f} s")
        command = _command(imposter, stage.program)
        hold(command is not None, f"`pooler up` does not end within {OUR_DEADLINE:.0f} s")
    return f"a hook's two logins take {hook:.1f} s, `pooler up` {command:.1f} s"


@contextlib.contextmanager
def _alone(stage: Stage, port: int) -> Iterator[Process]:
    """A PgBouncer with the configuration of the platform, but another server and other sockets."""
    found = stage.processes()[0]
    with tempfile.TemporaryDirectory(prefix="alone-", dir="/tmp") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o711)
        sockets = folder / "s"
        sockets.mkdir()
        settings = found.settings
        text = found.ini.read_text()
        replaced = {
            "unix_socket_dir": str(sockets),
            "listen_port": str(free_port()),
            "listen_addr": "127.0.0.1",
            "pidfile": str(sockets / "pid"),
            "auth_file": str(folder / "userlist.txt"),
        }
        lines: list[str] = []
        section = ""
        for line in text.splitlines():
            key, equals, _ = line.partition("=")
            section = line if line.startswith("[") else section
            if section == "[peers]" and equals:
                continue  # its siblings are not there
            if equals and key.strip() in replaced:
                lines.append(f"{key.strip()} = {replaced[key.strip()]}")
            else:
                lines.append(line.replace(f"port={stage.server.port}", f"port={port}"))
        ini = folder / "pgbouncer.ini"
        ini.write_text("\n".join(lines) + "\n")
        shutil.copy(settings["auth_file"], folder / "userlist.txt")
        owner = os.stat(f"/proc/{found.pid}")
        for path in (sockets, ini, folder / "userlist.txt"):
            os.chown(path, owner.st_uid, owner.st_gid)
        who = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        with subprocess.Popen(
            [stage.program, str(ini)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **(who if os.geteuid() == 0 else {}),
        ) as process:
            alone = Process(process.pid, ini)
            try:
                end = time.monotonic() + 5
                while not alone.answers and time.monotonic() < end:
                    time.sleep(0.05)
                yield alone
            finally:
                process.send_signal(signal.SIGKILL)


def _provoke(stage: Stage, alone: Process, imposter: Imposter) -> None:
    """A client logs in, so that PgBouncer looks its password up at the imposter."""
    with (
        contextlib.suppress(OSError, Closed, Refused),
        Wire(("127.0.0.1", int(alone.settings["listen_port"])), 3) as wire,
    ):
        wire.challenge(Scram("x"), user=stage.demo.user, database=stage.demo.database)
    imposter.asked.wait(3)


@attack("33b", "a server asks PgBouncer for 100 million SCRAM iterations (CVE-2026-6669)", "high")
def many_iterations_of_pgbouncer(stage: Stage) -> str:
    """A server that is not PostgreSQL keeps the whole process busy with SCRAM."""
    with Imposter("iterations") as imposter, _alone(stage, imposter.port) as alone:
        _provoke(stage, alone, imposter)
        hold(answers(alone.socket, 3), "PgBouncer answers no client meanwhile")
        return "PgBouncer goes on" if imposter.asked.is_set() else "PgBouncer does not log in"
