"""A unit's charm as far as its container is concerned: a real Pebble, with a real PgBouncer in it."""

import ops
import psycopg
import pydantic
from ports import free_port
from postgresql import ADMIN, PASSWORD

from adapters.pebble import pooler as pebble
from adapters.pebble.pooler import LAYOUT, PebblePooler
from adapters.pgbouncer.console import PsycopgConsoles
from domain.change import change_to
from domain.endpoints import Endpoint
from domain.instances import ConsoleUser, pooler_config
from domain.plan import Member, Plan, Upstream
from domain.settings import Settings
from domain.users import AuthMaterial

AUTH = AuthMaterial(
    auth_user="auth", auth_password=pydantic.SecretStr("auth-pw"),
    stats_user="stats", stats_password=pydantic.SecretStr("stats-pw"),
    admin_user="admin", admin_password=pydantic.SecretStr("admin-pw"),
)  # fmt: skip


class Unit:
    """One unit's charm, as far as its container is concerned."""

    def __init__(self, workload, server):
        self.workload, self.server, self.port = workload, server, free_port()
        observed = workload.observed()
        self.container = observed.container
        self.pooler = PebblePooler(observed)
        self.program = self.pooler.program()

    def config(self, cpus=1, backend=None, **options):
        settings = Settings(
            **{"listen_port": self.port, "max_db_connections": 8, "pool_mode": "transaction"}
            | options
        )
        shared = Plan(
            settings=settings,
            members=(Member(name="p/0", address="127.0.0.1", share=settings.max_db_connections),),
            upstream=Upstream(
                endpoints=(Endpoint(host="127.0.0.1", port=backend or self.server.port),),
                auth_database="template1",
                auth_user="auth",
            ),
            databases=("postgres",),
        )
        one = self.program.model_copy(update={"cpus": cpus})
        found = pooler_config(shared, "p/0", one, LAYOUT, AUTH)
        known = ConsoleUser(name=ADMIN, secret=pydantic.SecretStr(PASSWORD))
        return found.model_copy(update={"users": (*found.users, known)})

    def apply(self, config, pooler=None):
        now = self.pooler.read()
        change = change_to(config, self.program, now.applied, now.running)
        (pooler or self.pooler).apply(change)
        return change.steps

    def shown(self, index=0):
        with PsycopgConsoles(pebble.socket_directory).open(index, self.port, AUTH) as console:
            return console.settings()

    def client(self):
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=ADMIN, password=PASSWORD, dbname="postgres",
            connect_timeout=5,
        )  # fmt: skip

    def answers(self):
        with self.client() as client:
            return client.execute("select 1").fetchone() == (1,)

    def refuses(self):
        try:
            self.client().close()
        except psycopg.OperationalError:
            return True
        return False

    def changes(self):
        return {one.id for one in self.container.pebble.get_changes(ops.pebble.ChangeState.ALL)}


def with_line(config, name, value):
    instances = tuple(
        instance.model_copy(
            update={
                "settings": tuple(
                    (key, value if key == name else old) for key, old in instance.settings
                )
            }
        )
        for instance in config.instances
    )
    return config.model_copy(update={"instances": instances})


FAILED, RECOVERED = ("perform-check", "Error"), ("recover-check", "Done")


def told(unit, check):
    """What Pebble has told Juju of this check."""
    notices = unit.container.get_notices(types=[ops.pebble.NoticeType.CHANGE_UPDATE])
    ours = [one.key for one in notices if one.last_data.get("check-name") == check]
    changes = map(unit.container.pebble.get_change, map(ops.pebble.ChangeID, ours))
    return {(change.kind, change.status) for change in changes}
