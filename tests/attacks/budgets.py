"""Attacks on what strangers and clients share: look-ups, pools, memory, connections, the console."""

from __future__ import annotations

import contextlib
import pathlib
import re
import subprocess
import sys
import time

import psycopg
from attack import NotHeld, attack, hold
from packets import Closed, Refused, Wire, startup
from stage import Stage

STRANGERS, FLOOD_SECONDS = 250, 5.0
TRIES = 8  #: connections, so that the kernel spreads them over both processes
CONNECTIONS = 60  #: of each of two clients, together more than max_connections of the server


@attack("7", "a client logs in under 250 strangers", "medium")
def lookup_flood(stage: Stage) -> str:
    """250 clients without credentials try made-up names without end, each of which is looked up."""
    quiet, _ = stage.login_seconds(stage.demo)
    before = _look_ups(stage)
    host, port = stage.address
    script = pathlib.Path(__file__).with_name("flood.py")
    words = [host, str(port), stage.demo.database, str(STRANGERS), str(FLOOD_SECONDS)]
    with subprocess.Popen(
        [sys.executable, str(script), *words], stdout=subprocess.PIPE, text=True
    ) as flood:
        try:
            time.sleep(0.7)
            median, longest = stage.login_seconds(stage.demo, 9)
        except psycopg.OperationalError as error:
            raise NotHeld(f"a client cannot log in meanwhile: {error}") from None
        finally:
            said, _ = flood.communicate(timeout=30)
    told = (
        f"{int(said) / FLOOD_SECONDS:.0f} tries a second: a login takes {median * 1000:.0f} ms,"
        f" {longest * 1000:.0f} at most, and {quiet * 1000:.0f} without them"
    )
    hold(median < 1 and longest < 3, told)
    ended = before - _look_ups(stage)
    hold(not ended, f"{len(ended)} of {len(before)} connections that look names up have ended")
    return told


def _look_ups(stage: Stage) -> set[int]:
    """The process ids of PostgreSQL's sessions in which names are looked up."""
    query = "SELECT pid FROM pg_stat_activity WHERE usename = %s"
    return {pid for (pid,) in stage.server.sql(query, [stage.secrets()["auth_user"]])}


@attack("7b", "user names that are no text", "medium", awaits="a look-up that takes any bytes")
def undecodable_names(stage: Stage) -> None:
    """A client without credentials names users by bytes that are not valid in the server's encoding.

    PostgreSQL refuses them before get_auth is called, and PgBouncer closes the connection of the look-up.
    """
    stage.login_seconds(stage.demo)
    with contextlib.suppress(OSError, Closed), stage.wire(2) as wire:
        wire.send(startup(user="mallory", database=stage.demo.database))
        wire.receive()
    before = _look_ups(stage)
    for number in range(TRIES):
        packet = startup(user=f"mallory_{number}_XX", database=stage.demo.database)
        with contextlib.suppress(OSError, Closed), stage.wire(2) as wire:
            wire.send(packet.replace(b"XX", b"\xff\xff"))
            wire.receive()
    ended = before - _look_ups(stage)
    hold(not ended, f"{len(ended)} of {len(before)} connections that look names up have ended")


@attack("8", "pools made by made-up database names", "high")
def made_up_databases(stage: Stage) -> str:
    """A client without credentials names an existing user and 600 databases that do not exist.

    A pool named `*` would lead to all of them, so the operator has given a client createdb.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(stage.option("allowed-roles", "createdb"))
        with contextlib.suppress(RuntimeError):
            stack.enter_context(stage.related("roamer-8", "--roles", "createdb"))
        with stage.grows_less_than(8) as growth:
            for number in range(600):
                with contextlib.suppress(OSError, Closed), stage.wire(1) as wire:
                    wire.send(startup(user=stage.demo.user, database=f"made_up_{number}"))
                    wire.receive()
        rows = stage.do("top", "--once", "--all").count("made_up_")
        hold(not rows, f"PgBouncer keeps {rows} pools for databases that do not exist")
        return f"a process grows by {growth():.1f} MB"


@attack("15", "a database that a client was not given, by pool", "medium")
def any_database(stage: Stage) -> None:
    """A client without roles names PostgreSQL's own databases and that of another client.

    Another client has createdb, for which a pool named `*` once led everywhere.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(stage.option("allowed-roles", "createdb"))
        with contextlib.suppress(RuntimeError):
            stack.enter_context(stage.related("roamer-15", "--roles", "createdb"))
        mallory = stack.enter_context(stage.related("mallory-15"))
        reached: list[str] = []
        for database in ("postgres", "template1", "pgbouncer_auth", stage.demo.database):
            with contextlib.suppress(psycopg.OperationalError):
                stage.by_pool(mallory, dbname=database).close()
                reached.append(database)
        hold(not reached, f"a client without roles enters {', '.join(reached)}")


@attack("26", "clients take every connection of PostgreSQL", "medium")
def exhaustion(stage: Stage) -> str:
    """Two clients open as many transactions as they can; the operator relates another meanwhile."""
    with contextlib.ExitStack() as stack:
        held = 0
        for name in ("mallory-26", "eve-26"):
            client = stack.enter_context(stage.related(name))
            for _ in range(CONNECTIONS):
                wire = stack.enter_context(stage.wire(1))
                try:
                    wire.log_in(client.password, user=client.user, database=client.database)
                    wire.ask("BEGIN")
                    held += 1
                except (OSError, Closed, Refused):
                    break  # no further server connection
        begin = time.monotonic()
        code, said = stage.tried("relate", "other-26", seconds=15)
        took = time.monotonic() - begin
        stage.tried("unrelate", "other-26")
        said = " ".join(said.split())[-200:]
        hold(code == 0, f"{held} connections held; `pooler relate` fails: {said}")
        hold(took < 10, f"{held} connections held; `pooler relate` needs {took:.1f} s")
        return f"{held} connections held; `pooler relate` needs {took:.1f} s"


@attack("27", "prepared statements of 1 MB each", "medium", awaits="a limit in PgBouncer")
def prepared_statements(stage: Stage) -> None:
    """A client prepares 60 statements of 1 MB each, which PgBouncer keeps for it."""
    with (
        stage.option("pool_mode", "transaction", after="session"),
        stage.related("mallory-27") as mallory,
        stage.grows_less_than(30) as growth,
        stage.by_pool(mallory) as session,
    ):
        for number in range(60):
            text = f"SELECT {number} /* {'x' * 1_000_000} */"
            session.execute(text.encode(), prepare=True)
        kept = growth()
        hold(kept < 30, f"a process keeps {kept:.0f} MB of 60 MB while the client stays")


@attack("28", "the database through which passwords are looked up", "low")
def lookup_database(stage: Stage) -> None:
    """A client names the alias of the database that get_auth is in, and the database itself."""
    for database in ("pgbouncer_auth", "pgbouncer"):
        try:
            with stage.by_pool(stage.demo, dbname=database) as session:
                session.execute("SELECT 1")
        except psycopg.Error:
            continue
        raise NotHeld(f"a client works in {database}")


@attack("29", "the console over the network", "high")
def console_over_network(stage: Stage) -> None:
    """The console is asked for over TCP by a client, the statistics user and the administrator.

    Its passwords may leak with a backup, so the network has to be no way to it.
    """
    secrets = stage.secrets()
    users = {
        stage.demo.user: stage.demo.password,
        secrets["stats_user"]: secrets["stats_password"],
        secrets["admin_user"]: secrets["admin_password"],
    }
    reached: list[str] = []
    for user, password in users.items():
        with contextlib.suppress(OSError, Closed, Refused), stage.wire() as wire:
            wire.log_in(password, user=user, database="pgbouncer")
            wire.ask("SHOW VERSION")
            reached.append(re.sub(r"_[^_]+$", "", user))
    hold(not reached, f"the console answers {', '.join(reached)} over TCP")


@attack("29b", "the statistics user changes something", "high")
def statistics_user(stage: Stage) -> None:
    """The statistics user sends the console's commands that change or end something, by socket."""
    secrets = stage.secrets()
    done: list[str] = []
    for command in ("SET verbose=2", "PAUSE", "RELOAD", "KILL_CLIENT 1", "SHUTDOWN"):
        with (
            contextlib.suppress(OSError, Closed, Refused),
            Wire(stage.processes()[0].socket, 3) as wire,
        ):
            wire.log_in(
                secrets["stats_password"], user=secrets["stats_user"], database="pgbouncer"
            )
            try:
                wire.ask(command)
                done.append(command)
            except Refused as error:
                # A command that knows the user but not the client was not refused as a command.
                if "client" in str(error) and command.startswith("KILL"):
                    done.append(f"{command} ({error})")
    hold(not done, f"the statistics user does {', '.join(done)}")
