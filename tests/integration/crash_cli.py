"""How does `pooler` die at a chosen effect, and what is there afterwards?"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import psycopg
from platform_under_test import Pooler, lives

from adapters.postgres.ownership import group_name, new_owner_name
from wiring import LOCAL_OWNER

MORTAL = pathlib.Path(__file__).with_name("mortal_pooler.py")
# A busy machine takes long for a command.
SECONDS = 60.0
AUTH_DATABASE = "pgbouncer"
SEAL = re.compile(r"\[[0-9a-f]{32}\]$")
SECRET = re.compile(r'^"(?P<user>\w+)" ".*"$', re.MULTILINE)

ROLES = """
    SELECT rolname::text, rolcanlogin, coalesce(shobj_description(oid, 'pg_authid'), ''),
           array(SELECT pg_get_userbyid(roleid)::text FROM pg_auth_members WHERE member = oid ORDER BY 1)
    FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1
"""


class MortalPooler(Pooler):
    """A platform whose commands can die half-way."""

    def effects(self, *words):
        """What an undisturbed run does, in its order."""
        done = self._run(0, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return self._seen().splitlines()

    def dies(self, number, *words):
        """It died before this effect; returns which it was, or None if it was done before."""
        done = self._run(number, *words)
        assert "Traceback" not in done.stderr, done.stderr
        return self._seen().splitlines()[-1] if done.returncode == -signal.SIGKILL else None

    def _run(self, number, *words):
        environment = self.environment | {
            "DIE_AT": str(number),
            "EFFECTS": str(self.home.parent / "effects"),
        }
        return subprocess.run(
            [sys.executable, str(MORTAL), *words],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip

    def _seen(self):
        return (self.home.parent / "effects").read_text()

    def runs(self):
        """Whether PostgreSQL does."""
        return (self.home / "postgresql/postmaster.pid").exists()

    def state(self):
        return json.loads((self.home / "state.json").read_text())


def until(true):
    """This has become true."""
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def kill(*pids):
    """kill -9, and they are gone."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(lives, pids)))


def login(pooler):
    """The superuser of the platform's own server."""
    known = pooler.state()["model"]["backend"]["credentials"]
    where = known["endpoints"][0]
    return {"user": known["user"], "password": known["password"], **where}


def end_state(pooler):
    """All that a user, PostgreSQL and the machine can see of a platform, without what differs by chance."""
    state, server = pooler.state(), login(pooler)
    names = {
        f"relation_id_{number}": f"user of {one['application']}"
        for number, one in state["model"]["clients"].items()
    }

    # Each state has an identity, from which the names of groups are made.
    identity = state["model"]["identity"]
    owner = f"{LOCAL_OWNER} {identity}"
    databases = {one["database"] for one in state["model"]["clients"].values()}
    chance = {identity: "IDENTITY", new_owner_name(owner): "NEW OWNER"}
    chance |= {group_name(owner, name): f"GROUP OF {name}" for name in databases}
    # An equal plan may come back as another revision. A report of an earlier revision is a difference.
    revision = (state["model"]["plan"] or {}).get("revision", 0)

    def plain(text):
        for known, name in chance.items():
            text = text.replace(known, name)
        for known, name in ((pooler.home, "HOME"), (pooler.port, "PORT"), (server["port"], "PG")):
            text = re.sub(rf"(?<!\d){re.escape(str(known))}(?!\d)", name, text)
        text = re.sub(r"relation_id_\d+", lambda found: names.get(found[0], found[0]), text)
        text = re.sub(rf'(?<="revision": ){revision}\b', "PRESENT", text)
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "TIME", text)
        return re.sub(r"(?<=127.0.0.1 PG )[^\"]+", "…", text)

    shown = {
        "state": json.dumps(_without_secrets(state), indent=1),
        "files": "\n".join(f"{name} {text}" for name, text in files(pooler.home).items()),
        "processes": "\n".join(sorted(processes(pooler.home))),
    }
    if not pooler.runs():
        return {name: plain(text).splitlines() for name, text in shown.items()}
    shown["status"] = json.dumps(
        _lasting(json.loads(pooler.run("status", "--json").stdout)), indent=1
    )
    return {name: plain(text).splitlines() for name, text in shown.items()} | {
        "roles": [
            (plain(name), login, plain(SEAL.sub("[seal]", comment)), *map(plain, groups))
            for name, login, comment, groups in asked(server, ROLES)
        ],
        "databases": asked(server, "SELECT datname::text FROM pg_database ORDER BY 1"),
        "functions": asked(
            server | {"dbname": AUTH_DATABASE},
            "SELECT count(*) FROM pg_proc WHERE proname = 'get_auth'",
        ),
    }


def differences(found, wanted):
    """What one end state has and the other has not, as lines."""
    return [
        f"{name} {sign} {line}"
        for name in wanted
        for sign, some, others in (
            ("+", found.get(name, []), wanted[name]),
            ("-", wanted[name], found.get(name, [])),
        )
        for line in some
        if line not in others
    ]


def asked(server, statement):
    with psycopg.connect(**{"dbname": "postgres", "connect_timeout": 5} | server) as connection:
        return connection.execute(statement).fetchall()


# Numbers in the JSON of `status` that are different at every moment.
_PASSING = {"clients", "waiting", "servers", "servers_active", "longest_wait", "query_seconds"}


def _lasting(view):
    """Return the JSON of `status` without its loads and times."""
    if isinstance(view, dict):
        return {key: _lasting(entry) for key, entry in view.items() if key not in _PASSING}
    return [_lasting(entry) for entry in view] if isinstance(view, list) else view


def _without_secrets(value):
    if isinstance(value, list):
        return [_without_secrets(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        # Numbers of relations are never given twice.
        name if not name.isdecimal() else one["application"]: bool(one)
        if "password" in name
        else _without_secrets(one)
        for name, one in value.items()
        # PostgreSQL gives the others by chance, the digest is of a password, and a pause has its time.
        if name not in {"relations", "relation_id", "oid", "cluster", "signed_for", "since"}
    }


def files(home):
    """The files of a home with their modes and, where it says what PgBouncer does, their text.

    What a process was told last that does not run any more, tells nobody anything.
    """
    found, run = {}, " ".join(processes(home))
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        if name.startswith("postgresql/"):
            continue
        text = oct(path.stat().st_mode)
        if path.suffix == ".ini" and str(path) in run:
            text += path.read_text()
        elif path.name == "userlist.txt":
            text += SECRET.sub(r"\g<user>", path.read_text())
        found[name] = text
    return found


def processes(home):
    """The command lines that name a home."""
    found = set()
    for one in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = one.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"{home}/" in command:
            found.add(command.strip())
    return found
