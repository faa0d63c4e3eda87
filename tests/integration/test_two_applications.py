"""Two applications of the charm in front of a single PostgreSQL, which gives both the same database."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from postgresql import PostgreSQL
from verified_platform import UNIT, VerifiedPlatform, running

import wiring
from adapters.local.model import related
from adapters.local.run_as import pooler_owner
from adapters.postgres.databases import PsycopgDatabases
from app.application import Application
from domain.backend import BackendRelation
from logins import OWN

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator


class JujuApplication(VerifiedPlatform):
    """An application with its own user of PostgreSQL, as the PostgreSQL charms make it for each relation."""

    def __init__(
        self, program: pathlib.Path, home: pathlib.Path, server: PostgreSQL, number: int
    ) -> None:
        self.name, self.user = f"a-model/pooler-{number}", f"relation_id_{number}"
        home.mkdir(mode=0o711)
        super().__init__(program, home)
        # The numbers of relations are unique in a model of Juju.
        self.model.relations = number
        server.sql(f"CREATE ROLE {self.user} LOGIN SUPERUSER PASSWORD 'x'")
        self.login = server.credentials(OWN, self.user, "x")
        self.model.backend = related(self.login)
        self.hook("backend_changed")
        self.number = self.relate("shop" if number == 1 else "blog")

    def hook(self, name: str, *arguments: object) -> Any:
        """Run a hook of this application."""
        ports = wiring.local_ports(self.model, UNIT, self.program, self.layout, pooler_owner())
        ports = ports._replace(databases=PsycopgDatabases(self.name))
        return getattr(Application(ports), name)(*arguments)

    def serves(self) -> bool:
        """Return whether a client that logs in anew gets an answer."""
        with contextlib.closing(self.client(self.number)) as client:
            return client.execute("SELECT current_user").fetchone() == (
                f"relation_id_{self.number}",
            )

    def leave(self) -> None:
        """The relation with PostgreSQL ends, as Juju and the PostgreSQL charms end it."""
        self.model.backend = BackendRelation(related=True, credentials=self.login)
        self.hook("backend_departed", "postgresql/0")
        self.model.backend = BackendRelation()
        self.hook("backend_broken")


@pytest.fixture
def first(
    program: pathlib.Path, home: pathlib.Path, server: PostgreSQL
) -> Iterator[JujuApplication]:
    with running(JujuApplication(program, home / "first", server, 1)) as platform:
        yield platform


@pytest.fixture
def second(
    program: pathlib.Path, home: pathlib.Path, server: PostgreSQL, first: JujuApplication
) -> Iterator[JujuApplication]:
    with running(JujuApplication(program, home / "second", server, 11)) as platform:
        yield platform


def schemas(server: PostgreSQL) -> list[str]:
    query = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^pgbouncer' ORDER BY 1"
    return [name for (name,) in server.sql(query, database=OWN)]


def test_two_applications_of_a_server_serve_clients_and_leave_alone(
    server: PostgreSQL, first: JujuApplication, second: JujuApplication
) -> None:
    mine, other = ["pgbouncer_auth_relation_id_1"], ["pgbouncer_auth_relation_id_11"]
    assert schemas(server) == [*mine, *other]
    for platform in (first, second, first):
        platform.hook("update_status")
        assert platform.serves(), platform.status
    secret = first.model.clients[first.number].password
    assert secret
    first.leave()
    assert schemas(server) == other
    second.hook("update_status")
    assert second.serves(), second.status
    with pytest.raises(psycopg.OperationalError):
        server.connect("shop", f"relation_id_{first.number}", secret.get_secret_value()).close()
    second.leave()
    assert schemas(server) == []


def test_an_application_serves_beside_the_schema_of_an_earlier_release(
    server: PostgreSQL, first: JujuApplication, second: JujuApplication
) -> None:
    """The first application was made by a release whose schema has the name `pgbouncer`."""
    server.sql("ALTER SCHEMA pgbouncer_auth_relation_id_1 RENAME TO pgbouncer", database=OWN)
    plan = first.model.plan
    assert plan
    assert plan.upstream
    before = plan.upstream.model_copy(update={"auth_schema": "pgbouncer"})
    first.model.plan = plan.model_copy(update={"upstream": before})
    first.model.ledger = first.model.ledger.model_copy(update={"auth_schema": ""})
    first.hook("peers_changed")
    assert first.serves(), first.status
    assert second.serves(), second.status
    # Units of the earlier release go on with their function.
    assert schemas(server) == [
        "pgbouncer", "pgbouncer_auth_relation_id_1", "pgbouncer_auth_relation_id_11",
    ]  # fmt: skip
    assert first.model.plan.upstream
    assert first.model.plan.upstream.auth_schema == "pgbouncer_auth_relation_id_1"
    auth = first.model.auth
    assert auth
    for schema in ("pgbouncer", "pgbouncer_auth_relation_id_1"):
        [(name,)] = server.sql(
            f"SELECT username FROM {schema}.get_auth(%s)", (f"relation_id_{first.number}",),
            database=OWN, user=auth.auth_user, password=auth.auth_password.get_secret_value(),
        )  # fmt: skip
        assert name == f"relation_id_{first.number}"
    first.leave()
    assert schemas(server) == ["pgbouncer_auth_relation_id_11"]
    assert second.serves(), second.status
