"""PgBouncer serves the clients of Canonical's charm by its auth user, and then by that of this charm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pydantic
import pytest
from test_postgres_inherited import FORMER, before, role

from adapters.pebble.pooler import LAYOUT
from domain.backend import BackendLogin, BackendRelation
from domain.facts import Facts
from domain.instances import pooler_config
from domain.ledger import Ledger
from domain.plan import AUTH_ALIASES
from domain.reference import Reference, ReferenceDatabase
from domain.replacement import following, successor_of
from domain.settings import Settings
from domain.users import AuthMaterial
from logins import CLIENT_PASSWORD, OWN, OWNER, asked
from pooler import binaries

if TYPE_CHECKING:
    from container_unit import Unit
    from postgresql import PostgreSQL

    from adapters.postgres.databases import PsycopgDatabases
    from domain.instances import PoolerConfig
    from domain.plan import Plan

pytestmark = [
    # A container's file system can be mounted by root only.
    pytest.mark.root,
    pytest.mark.parametrize(
        "programs", [binaries.SUITE, binaries.OLDER_SUITE], indirect=True, scope="module"
    ),
]

AUTH = AuthMaterial(
    auth_user=FORMER, auth_password=pydantic.SecretStr("former"),
    stats_user="pgbouncer_stats_pool", stats_password=pydantic.SecretStr("stats"),
    admin_user="pgbouncer_admin_pool", admin_password=pydantic.SecretStr("admin"),
)  # fmt: skip


def plan_of(unit: Unit, backend: BackendLogin) -> Plan:
    """Return the plan that follows from what Canonical's charm has stored."""
    facts = Facts(
        unit="p/0",
        address="127.0.0.1",
        leader=False,
        settings=Settings(listen_port=unit.port, max_db_connections=8),
        layout=LAYOUT,
        backend=BackendRelation(related=True, present=True, credentials=backend),
        reference=Reference(
            databases=(ReferenceDatabase(relation_id=1, name="shop"),),
            auth=AUTH,
            units=("p/1",),
        ),
    )
    plan = following(facts).plan
    assert plan
    return plan


def total(unit: Unit) -> object:
    """Return what a new session of the client reads through the pool."""
    with psycopg.connect(
        host="127.0.0.1",
        port=unit.port,
        user="relation_id_1",
        password=CLIENT_PASSWORD,
        dbname="shop",
        connect_timeout=5,
    ) as client:
        return client.execute("SELECT total FROM orders").fetchone()


def test_a_client_logs_in_before_and_after_its_role_is_taken_over(
    unit: Unit, server: PostgreSQL, databases: PsycopgDatabases
) -> None:
    before(server)
    backend = server.credentials(OWN)
    plan = plan_of(unit, backend)

    def config(plan: Plan, auth: AuthMaterial) -> PoolerConfig:
        return pooler_config(plan, "p/0", unit.program, LAYOUT, auth)

    unit.apply(config(plan, AUTH))
    unit.workload.wait(lambda: bool(total(unit)), 10)
    assert total(unit) == (42,)
    # The leader of this charm takes over.
    auth = successor_of(AUTH, "former", "TheSecondPassword", "TheAdminPassword")
    with databases.open(backend) as database:
        assert database.adopt(role())
        database.provision(auth, OWN)
        database.grant(asked(1))
        made = database.made()
    assert total(unit) == (42,)
    upstream = plan.upstream
    assert upstream
    used = {
        "auth_user": auth.auth_user,
        "auth_schema": auth.auth_user,
        "auth_alias": AUTH_ALIASES[1],
        "former_auth_user": FORMER,
    }
    after = plan.model_copy(
        update={"md5_logins": False, "upstream": upstream.model_copy(update=used)}
    )
    processes = unit.workload.processes()
    steps = unit.apply(config(after, auth))
    assert {step.action for step in steps} == {"reload"}
    assert total(unit) == (42,)
    unused = upstream.model_copy(update=used | {"former_auth_user": ""})
    unit.apply(config(after.model_copy(update={"upstream": unused}), auth.unused()))
    assert total(unit) == (42,)
    # PgBouncer would end if a database with connections got another user.
    assert unit.workload.processes() == processes
    with type(databases)(OWNER).open(backend, Ledger(made=made)) as database:
        database.drop_inherited_auth_user(FORMER)
    assert total(unit) == (42,)
