"""Attacks by roles, databases and code: a client wants what belongs to another, or a superuser's rights."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import psycopg
from attack import NotHeld, attack, hold
from consent import drop_database, drop_role, refused
from postgresql import PostgreSQL
from stage import Stage

from adapters.postgres.databases import PsycopgDatabases
from app.errors import AccessRefused, DatabaseRefused
from logins import CLIENT_PASSWORD, OWN, OWNER, asked, material
from logins import login as client


def _owner_in_comments(server: PostgreSQL) -> str:
    """Return the owner in the comments of the platform's roles, which each role can read."""
    comments = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles"
    begin = "managed by pgbouncer-k8s for "
    owners = {
        text.removeprefix(begin).partition(": ")[0]
        for (text,) in server.sql(comments)
        if text and text.startswith(f"{begin}the pooler on this machine ")
    }
    (owner,) = owners
    return owner


@attack("18", "a role made in advance under a name of ours", "critical")
def role_in_advance(stage: Stage) -> str:
    """A role with CREATEROLE makes the group of the next client's database, with our comment.

    Comments can be read by every role, and the name can be computed. It then reads the client's
    tables as a member of the group.
    """
    server = stage.server
    server.sql("CREATE ROLE evil_18 LOGIN CREATEROLE PASSWORD 'x'")
    database = "salaries_18"
    both = f"{_owner_in_comments(server)}\0{database}".encode()
    names = [f"pgbouncer_{hashlib.sha256(both).hexdigest()[:32]}"]
    try:
        evil = {"user": "evil_18", "password": "x"}
        marks = server.sql(
            """
            SELECT DISTINCT shobj_description(oid, 'pg_authid') FROM pg_roles
            WHERE rolname ~ '^pgbouncer_[0-9a-f]{32}$'
            """,
            **evil,
        )
        mark = next((text for (text,) in marks if text), "managed by pgbouncer-k8s")
        for name in names:
            server.sql(f"CREATE ROLE {name}", **evil)
            server.sql(f"COMMENT ON ROLE {name} IS '{mark}'", **evil)
            server.sql(f"GRANT {name} TO evil_18", **evil)
        code, said = stage.tried("relate", "salaries-18", "--database", database)
        if code:
            hold(names[0] in said or "role" in said, f"refused without its reason: {said[-200:]}")
            return f"refused: {' '.join(said.split())[-160:]}"
        with stage.directly(stage.client("salaries-18")) as session:
            session.execute("CREATE TABLE salaries AS SELECT 'secret of a client' AS text")
        with contextlib.suppress(psycopg.Error):
            rows = server.sql("SELECT text FROM salaries", database=database, **evil)
            raise NotHeld(f"a role made in advance reads the client's table: {rows}")
        return "the client has a group that the role is no member of"
    finally:
        stage.tried("unrelate", "salaries-18")
        for name in (*names, "evil_18"):
            drop_role(stage, name)


@attack("18b", "a user made in advance under the next client's name", "critical")
def user_in_advance(stage: Stage) -> str:
    """A role with CREATEROLE makes the user of the next relation, with our comment and a password."""
    server = stage.server
    server.sql("CREATE ROLE evil_18b LOGIN CREATEROLE PASSWORD 'x'")
    numbers = [int(n) for (n,) in server.sql(_NUMBERS)]
    following = max([*numbers, int(stage.state()["relations"])]) + 1
    name = f"relation_id_{following}"
    try:
        evil = {"user": "evil_18b", "password": "x"}
        (mark,) = server.sql(
            "SELECT shobj_description(%s::regrole, 'pg_authid')", [stage.demo.user], **evil
        )[0]
        server.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'known to evil'", **evil)
        server.sql(f"COMMENT ON ROLE {name} IS '{mark or ''}'", **evil)
        code, said = stage.tried("relate", "victim-18b")
        if code:
            return f"refused: {' '.join(said.split())[-160:]}"
        victim = stage.client("victim-18b")
        with contextlib.suppress(psycopg.OperationalError):
            known = {"user": victim.user, "password": "known to evil"}
            stage.directly(victim, **known).close()
            raise NotHeld("the client's user has the password that was set in advance")
        member = server.sql("SELECT pg_has_role('evil_18b', %s, 'MEMBER')", [victim.user], **evil)[
            0
        ][0]
        hold(not member, "the role that made the client's user in advance is a member of it")
        return "the client has a user that the role does not reach"
    finally:
        stage.tried("unrelate", "victim-18b")
        drop_role(stage, name)
        drop_role(stage, "evil_18b")


_NUMBERS = """
SELECT substring(rolname FROM '^relation_id_([0-9]+)$') FROM pg_roles
WHERE rolname ~ '^relation_id_[0-9]+$'
"""


@attack("19", "a database made in advance under the next client's name", "high")
def database_in_advance(stage: Stage) -> str:
    """A role with CREATEDB makes the database that the next client will ask for, with a table in it."""
    server = stage.server
    server.sql("CREATE ROLE evil_19 LOGIN CREATEDB PASSWORD 'x'")
    evil = {"user": "evil_19", "password": "x"}
    try:
        server.sql("CREATE DATABASE payroll_19", **evil)
        server.sql(
            "CREATE TABLE users (name text, password text); GRANT ALL ON users TO PUBLIC",
            database="payroll_19",
            **evil,
        )
        words = ("payroll-19", "--database", "payroll_19")
        victim = refused(stage, *words, allowed_by="shared-databases")
        if victim is None:
            return "refused until the operator allows it"
        with stage.directly(victim) as session:
            session.execute("CREATE TABLE IF NOT EXISTS users (name text, password text)")
            session.execute("INSERT INTO users VALUES ('alice', 'hunter2')")
        rows = server.sql("SELECT password FROM users", database="payroll_19", **evil)
        raise NotHeld(f"the database's maker reads what the client wrote: {rows}")
    finally:
        stage.tried("unrelate", "payroll-19")
        drop_database(stage, "payroll_19")
        drop_role(stage, "evil_19")


@attack("22", "the database of another application", "high")
def database_of_another(stage: Stage) -> str:
    """A client names the database of another client, and a database that was there before us."""
    server = stage.server
    server.sql("CREATE DATABASE ops_22")
    server.sql("CREATE TABLE cards AS SELECT '4111' AS number", database="ops_22")
    try:
        with stage.related("alpha-22", "--database", "alpha_22") as alpha:
            with stage.directly(alpha) as session:
                session.execute("CREATE TABLE private AS SELECT 'secret of alpha' AS text")
            for database, table in (("alpha_22", "private"), ("ops_22", "cards")):
                words = ("mallory-22", "--database", database)
                mallory = refused(stage, *words, allowed_by="shared-databases")
                if mallory is not None:
                    with stage.directly(mallory) as session:
                        rows = session.execute(f"SELECT * FROM {table}".encode()).fetchall()
                    raise NotHeld(f"the client reads {table} in {database}: {rows}")
                stage.tried("unrelate", "mallory-22")
        # An application that comes back has its own database again.
        with stage.related("alpha-22", "--database", "alpha_22") as alpha:
            stage.directly(alpha).close()
    finally:
        stage.tried("unrelate", "mallory-22")
        drop_database(stage, "ops_22")
    return "refused until the operator allows it"


@attack("23", "TRIGGER on the tables of another client of a database", "high")
def trigger_on_anothers_table(stage: Stage) -> str:
    """Two clients share a database with consent; the second puts a trigger on a table of the first."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(stage.option("shared-databases", "firm_23"))
        boss = stack.enter_context(stage.related("boss-23", "--database", "firm_23"))
        intern = stack.enter_context(stage.related("intern-23", "--database", "firm_23"))
        with stage.directly(boss) as session:
            session.execute("CREATE TABLE orders (x int)")
        with stage.directly(intern) as session:
            session.execute("SELECT x FROM orders")
            session.execute(
                "CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN ALTER ROLE CURRENT_USER SET search_path = evil; RETURN NEW; END $$"
            )
            try:
                session.execute("CREATE TRIGGER t BEFORE INSERT ON orders EXECUTE FUNCTION trap()")
            except psycopg.errors.InsufficientPrivilege:
                return "refused by PostgreSQL"
    raise NotHeld("a client puts a trigger on the table of another client")


@attack("24", "code left behind runs as the next client", "medium")
def code_left_behind(stage: Stage) -> str:
    """A client leaves a trigger and a SECURITY DEFINER function, and its relation ends.

    They have to be defused, or named in what the operator reads.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(stage.option("shared-databases", "shop_24"))
        stage.do("relate", "old-24", "--database", "shop_24")
        stack.callback(stage.tried, "unrelate", "old-24")
        with stage.directly(stage.client("old-24")) as session:
            session.execute("CREATE TABLE orders_24 (x int); CREATE TABLE ran_24 (by text)")
            session.execute(
                "CREATE FUNCTION trap_24() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN INSERT INTO ran_24 VALUES (current_user); RETURN NEW; END $$"
            )
            session.execute(
                "CREATE TRIGGER trigger_24 BEFORE INSERT ON orders_24"
                " FOR EACH ROW EXECUTE FUNCTION trap_24()"
            )
            session.execute(
                "CREATE FUNCTION definer_24() RETURNS text LANGUAGE sql SECURITY DEFINER"
                " AS 'SELECT current_user::text'"
            )
        _, said = stage.tried("unrelate", "old-24")
        said += stage.tried("status")[1]
        new = stack.enter_context(stage.related("new-24", "--database", "shop_24"))
        with stage.directly(new) as session:
            with contextlib.suppress(psycopg.Error):
                session.execute("INSERT INTO orders_24 VALUES (1)")
            rows = session.execute("SELECT by FROM ran_24").fetchall()
            definer = stage.server.sql(
                "SELECT prosecdef FROM pg_proc WHERE proname = 'definer_24'", database="shop_24"
            )
        said += stage.tried("status")[1]
        log = "".join(p.read_text(errors="replace") for p in stage.pooler.home.rglob("*.log"))
        named = any(name in said + log for name in ("trap_24", "trigger_24", "definer_24"))
        ran = f"the trigger ran as {rows}; SECURITY DEFINER stays: {definer}"
        hold(named or (not rows and definer != [(True,)]), f"{ran}; no output names them")
        return f"named: {named}; {ran}"


@attack("25", "SECURITY DEFINER function inherits from a limited backend", "critical")
def security_definer_heir(stage: Stage) -> str:
    """A client leaves a SECURITY DEFINER function where every role may create; the backend is limited.

    Who inherits the function must have no rights: a superuser and our own user have too many.
    """
    found: list[str] = []
    with PostgreSQL(programs=stage.programs) as server:
        server.sql(f"CREATE DATABASE {OWN}")
        server.sql("CREATE DATABASE legacy")
        server.sql("GRANT CREATE ON SCHEMA public TO PUBLIC", database="legacy")
        server.sql("CREATE ROLE lim LOGIN CREATEROLE CREATEDB PASSWORD 'x'")
        server.sql(f"ALTER DATABASE {OWN} OWNER TO lim")
        server.sql("GRANT SELECT ON pg_catalog.pg_authid TO lim", database=OWN)
        server.sql("CREATE ROLE bystander LOGIN PASSWORD 'x'")
        for number, user, password in ((1, "lim", "x"), (2, "operator", None)):
            login = (
                server.credentials(OWN, user, password) if password else server.credentials(OWN)
            )
            databases = PsycopgDatabases(OWNER if user == "lim" else f"{OWNER}-2")
            with databases.open(login) as database:
                database.provision(material(), OWN) if user == "lim" else None
                database.grant(asked(number, f"shop{number}"))
                database.set_password(client(number))
            server.sql(
                f"CREATE FUNCTION steal{number}() RETURNS text LANGUAGE sql SECURITY DEFINER"
                " AS 'SELECT current_user::text'",
                database="legacy",
                user=f"relation_id_{number}",
                password=CLIENT_PASSWORD,
            )
            with (
                databases.open(login) as database,
                contextlib.suppress(AccessRefused, DatabaseRefused),
            ):
                database.revoke(f"relation_id_{number}")
            found += _powerful(server, number, user)
    hold(not found, "; ".join(found))
    return "the function runs as a role without rights, or not at all"


def _powerful(server: PostgreSQL, number: int, backend: str) -> Iterator[str]:
    try:
        who = server.sql(
            f"SELECT steal{number}()", database="legacy", user="bystander", password="x"
        )[0][0]
    except psycopg.Error:
        return
    rights = server.sql(
        """
        SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
            OR rolcanlogin FROM pg_roles WHERE rolname = %s
        """,
        [who],
    )
    # As its caller it does nothing that the caller could not do without it.
    if who != "bystander" and (who == backend or (rights and rights[0][0])):
        yield f"with backend user {backend} the function of a client that left runs as {who}"
