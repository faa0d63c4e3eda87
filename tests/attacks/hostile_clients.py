"""Attacks by a client with its own credentials on other clients' access: locks, settings, sessions."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator

import psycopg
from attack import NotHeld, attack, hold
from stage import Client, Stage

PROMPT = 5.0  #: seconds in which another client has to be related
SETTLED = 15.0  #: seconds in which the end of a relation has to be done


@contextlib.contextmanager
def queue_lock(stage: Stage, client: Client, *, settings: bool = False) -> Iterator[None]:
    """No session enters the client's database: a VACUUM FULL of pg_class waits behind a reader.

    With `settings`, what the client sets for its database and its user ends other sessions, too.
    """
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(contextlib.closing(stage.directly(client)))
        waiting = stack.enter_context(contextlib.closing(stage.directly(client)))
        if settings:
            _hostile_settings(waiting, client)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM pg_class")

        def wait() -> None:
            with contextlib.suppress(psycopg.Error):
                waiting.execute("VACUUM FULL pg_class")

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        try:
            _until_locked(stage, client)
            yield
        finally:
            stage.server.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
                [client.user],
            )
            # A connection that is closed while a thread reads from it ends this process by a signal.
            thread.join()


def _until_locked(stage: Stage, client: Client) -> None:
    end = time.monotonic() + 5
    question = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = %s AND query LIKE 'VACUUM%%' AND wait_event_type = 'Lock'"
    )
    while not stage.server.sql(question, [client.database])[0][0]:
        if time.monotonic() > end:
            raise RuntimeError("the VACUUM of the attack does not wait for its lock")
        time.sleep(0.05)


def _relate(stage: Stage, name: str) -> tuple[Client, float]:
    """Another client, and how long its relation took."""
    begin = time.monotonic()
    code, said = stage.tried("relate", name)
    took = time.monotonic() - begin
    hold(code == 0, f"`pooler relate {name}` fails: {' '.join(said.split())[-220:]}")
    return stage.client(name), took


def _relates_promptly(stage: Stage, name: str, quiet: float) -> float:
    """How long it takes; `quiet` is how long it took before the attack, on a machine that may be busy."""
    client, took = _relate(stage, name)
    limit = max(PROMPT, 2 * quiet)
    hold(took < limit, f"`pooler relate {name}` takes {took:.1f} s, and {quiet:.1f} s before")
    stage.by_pool(client).close()
    return took


@attack("13", "locks, a full database and settings, then the relation ends", "critical")
def queue_lock_and_leave(stage: Stage) -> str:
    """A client fills its database, makes its settings hostile, locks its catalog, and leaves.

    Another client has to be related in under five seconds, and the hostile client must not log in
    after the end of its relation, by pool or directly.
    """
    mallory, quiet = _relate(stage, "mallory-13")
    try:
        with stage.directly(mallory) as session:
            session.execute(
                "CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 30000)"
            )
            tables = "; ".join(f"CREATE TABLE t{number} (x int)" for number in range(200))
            session.execute(tables.encode())
        with queue_lock(stage, mallory, settings=True):
            took = _relates_promptly(stage, "other-13", quiet)
            begin = time.monotonic()
            code, said = stage.tried("unrelate", mallory.name)
            ended = time.monotonic() - begin
            stage.locked_out(mallory)
            hold(code == 0, f"`pooler unrelate` fails: {' '.join(said.split())[-200:]}")
            hold(ended < max(SETTLED, 3 * quiet), f"`pooler unrelate` takes {ended:.1f} s")
            again = _relates_promptly(stage, "another-13", quiet)
        stage.locked_out(mallory)
        return (
            f"others are related in {took:.1f} s and {again:.1f} s ({quiet:.1f} s before),"
            f" the end takes {ended:.1f} s"
        )
    finally:
        stage.forget_settings(mallory)
        for name in ("mallory-13", "other-13", "another-13"):
            stage.tried("unrelate", name)


@attack("13b", "another client leaves while a database is locked", "critical")
def bystander_leaves(stage: Stage) -> str:
    """While a client locks its database, the relation of another client ends.

    The other client has left, so its login and its sessions have to end although the lock stays.
    """
    with stage.related("mallory-13b") as mallory:
        bystander, quiet = _relate(stage, "bystander-13b")
        try:
            with queue_lock(stage, mallory):
                begin = time.monotonic()
                code, said = stage.tried("unrelate", bystander.name)
                took = time.monotonic() - begin
                stage.locked_out(bystander)
                hold(code == 0, f"`pooler unrelate` fails: {' '.join(said.split())[-200:]}")
                hold(took < max(SETTLED, 3 * quiet), f"`pooler unrelate` takes {took:.1f} s")
                return f"the end takes {took:.1f} s"
        finally:
            stage.tried("unrelate", bystander.name)


def _hostile_settings(session: psycopg.Connection, client: Client) -> None:
    """What the owner of a database may set for all who enter it, and a role for itself."""
    for setting in (
        "idle_session_timeout = '1ms'",
        "statement_timeout = '1ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '1ms'",
        "default_transaction_read_only = on",
        "search_path = evil",
        "local_preload_libraries = 'no_such_library'",
        "client_encoding = 'LATIN1'",
        "transaction_timeout = '1ms'",
    ):
        for target in (f'DATABASE "{client.database}"', "ROLE CURRENT_USER"):
            with contextlib.suppress(psycopg.Error):
                session.execute(f"ALTER {target} SET {setting}".encode())


@attack("14", "hostile settings of a database, then the relation ends", "high")
def hostile_settings(stage: Stage) -> None:
    """A client sets what ends every session in its database, and leaves."""
    mallory, quiet = _relate(stage, "mallory-14")
    try:
        with stage.directly(mallory) as session:
            session.execute("CREATE TABLE t (x int)")
            _hostile_settings(session, mallory)
        _relates_promptly(stage, "other-14", quiet)
        stage.tried("unrelate", mallory.name)
        stage.locked_out(mallory)
    finally:
        stage.forget_settings(mallory)
        for name in ("mallory-14", "other-14"):
            stage.tried("unrelate", name)


@attack("16", "a session in template1 while a database is made", "high")
def session_in_template(stage: Stage) -> str:
    """A client keeps a session in template1, from which PostgreSQL would copy a new database."""
    with stage.related("mallory-16") as mallory, contextlib.ExitStack() as stack:
        try:
            stack.enter_context(stage.directly(mallory, dbname="template1"))
        except psycopg.OperationalError:
            return "the client does not enter template1"
        stack.callback(stage.tried, "unrelate", "other-16")
        return f"another client is related in {_relate(stage, 'other-16')[1]:.1f} s"


@attack("30", "sessions and locks at the end of a relation", "high")
def plain_end(stage: Stage) -> None:
    """A client keeps sessions by pool and directly, with and without a lock, when its relation ends."""
    stage.do("relate", "mallory-30")
    mallory = stage.client("mallory-30")
    with contextlib.ExitStack() as stack:
        stack.callback(stage.tried, "unrelate", "mallory-30")
        kinds = {
            "by pool": stage.by_pool(mallory),
            "by pool, in a transaction": stage.by_pool(mallory),
            "direct": stage.directly(mallory),
            "direct, with a lock": stage.directly(mallory),
        }
        for session in kinds.values():
            stack.callback(session.close)
        kinds["direct"].execute("CREATE TABLE t (x int)")
        kinds["by pool, in a transaction"].execute("BEGIN")
        kinds["by pool, in a transaction"].execute("SELECT 1")
        kinds["direct, with a lock"].execute("BEGIN")
        kinds["direct, with a lock"].execute("LOCK TABLE t")
        stage.do("unrelate", "mallory-30")
        time.sleep(1)
        left: list[str] = []
        for name, session in kinds.items():
            with contextlib.suppress(psycopg.Error):
                session.execute("SELECT 1")
                left.append(name)
        hold(not left, f"sessions go on a second after the end: {', '.join(left)}")
        stage.locked_out(mallory)


@attack("31", "statements of other clients", "low")
def statements_of_others(stage: Stage) -> None:
    """A client reads pg_stat_activity while another client runs a statement with a secret."""
    with (
        stage.related("mallory-31") as mallory,
        stage.directly(stage.demo) as other,
        stage.directly(mallory) as session,
    ):
        other.execute("SELECT 'secret-of-another'")
        rows = session.execute("SELECT query FROM pg_stat_activity").fetchall()
        hold("secret-of-another" not in str(rows), "a client reads the statement of another")


@attack("40", "verifiers and passwords in logs", "low")
def secrets_in_logs(stage: Stage) -> None:
    """A local user reads what PostgreSQL logs with log_statement=ddl, and what PgBouncer logs."""
    with stage.related("fresh-40") as client:
        stage.by_pool(client).close()
        # The source of get_auth, which is logged, has the beginning of a verifier in it.
        verifier = re.search(r"SCRAM-SHA-256\$\d+:[A-Za-z0-9+/]", stage.server.log)
        hold(verifier is None, "PostgreSQL logs the verifiers of clients")
        passwords = {client.password, *(v for k, v in stage.secrets().items() if "password" in k)}
        logs = [path.read_text(errors="replace") for path in stage.pooler.home.rglob("*.log")]
        said = "".join((*logs, stage.server.log))
        found = sum(password in said for password in passwords)
        hold(not found, f"{found} passwords stand in logs")


@attack("42", "what the end of the platform leaves", "medium")
def what_is_left(stage: Stage) -> str:
    """The operator ends the platform; roles, logins and functions of ours must not stay.

    What stays, such as the databases of clients, has to be said.
    """
    stage.do("relate", "last-42")
    last = stage.client("last-42")
    said = stage.do("down", "--delete", "--yes")
    left = [name for (name,) in stage.server.sql(_OURS)]
    hold(not left, f"roles stay in PostgreSQL: {', '.join(left)}")
    with contextlib.suppress(psycopg.OperationalError):
        stage.directly(last).close()
        raise NotHeld("a client logs in directly after the end")
    names = {name for (name,) in stage.server.sql("SELECT datname FROM pg_database")}
    hold("pgbouncer" not in names, "the database of the look-up stays")
    stays = last.database in names
    hold(
        not stays or "database" in said, "`pooler down --delete` does not say that databases stay"
    )
    return " ".join(said.split())[-160:]


_OURS = """
SELECT rolname FROM pg_roles
WHERE (shobj_description(oid, 'pg_authid') LIKE 'managed by pgbouncer-k8s%'
   OR rolname ~ '^(relation_id_|pgbouncer_)')
   -- A role without login owns what clients left in databases that stay.
   AND (rolcanlogin OR rolname !~ '^pgbouncer_heir_')
ORDER BY 1
"""
